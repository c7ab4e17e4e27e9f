"""Cells of a search, and what a comparison takes from it; pure (docs/concepts/search.md).

A cell is recognised by what it trains: the fingerprint of its last annealed end with everything set aside that a search
chooses (learning rate, `embedding_init`) or in which search and comparison must or may differ (seed, which files of the
text, evaluations, earlier ends).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sweeps.language.asha import SELECT, Bracket, Candidate
from sweeps.language.grid import Trial
from sweeps.language.manifest import PlanChoice, PlanSearch, PlanStage
from sweeps.language.plugins import Registries, Science
from sweeps.language.presets import SEARCHED
from sweeps.language.resolve import SHARE, Resolver
from sweeps.language.science import EvaluateScience, SearchScience, TransferScience
from sweeps.language.stage import Input, StageSpec, section
from sweeps.language.stages import GraphBuilder, rungs_of
from sweeps.language.units import Fraction, tokens_text

REVISION = 1
"""Raised whenever the same losses would lead to another choice."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a search chose for a cell."""

    cell: str
    key: str
    """See `Bracket.key`."""
    values: Mapping[str, float]
    """Searched field -> value; empty where every candidate diverged."""
    boundary: tuple[str, ...]
    """Fields whose value is the smallest or largest of the grid."""
    seeds: tuple[int, ...]
    runner_up: Mapping[str, float] = field(default_factory=dict)
    """See `PlanChoice.runner_up`."""
    lead: tuple[float, ...] = ()
    """See `PlanChoice.lead`."""
    upstream_tokens: int
    pretrain_tokens: int
    select: str
    """Fingerprint of the stage that holds it."""
    search_share: str | None = None
    """See `PlanSearch.search_share`."""


# -- a search ---------------------------------------------------------------------------------------------------------


def plan_search(science: SearchScience, trials: Sequence[Trial], paths: Mapping[str, Any],
                registries: Registries, scale: str) -> PlanSearch:
    """Return the brackets of a search: its trials by cell, and in each by candidate."""
    keys = cell_keys(trials, registries, scale)
    cells: dict[str, dict[str, list[Trial]]] = {}
    for trial in trials:
        cells.setdefault(_cell(trial), {}).setdefault(trial.arm, []).append(trial)
    brackets = []
    for cell, arms in cells.items():
        first = next(iter(arms.values()))[0]
        bracket = Bracket(cell=cell, key=keys[cell], upstream_tokens=first.upstream_tokens,
                          pretrain_tokens=first.pretrain_tokens,
                          candidates=tuple(_candidate(found, paths) for found in arms.values()))
        brackets.append(replace(bracket, select=select_spec(bracket, science.eta).fingerprint))
    return PlanSearch(eta=science.eta, brackets=tuple(brackets), search_share=trials[0].core["text"].search_share)


def _cell(trial: Trial) -> str:
    return f"{trial.bare} | {trial.domain}"


def _candidate(trials: Sequence[Trial], paths: Mapping[str, Any]) -> Candidate:
    values = {}
    for key in SEARCHED:
        if key in trials[0].extras:
            prefix, _, field = key.partition(".")
            values[key] = float(getattr(trials[0].core[prefix], field))
    return Candidate(values=values, runs=tuple(rungs_of(paths[t.id]) for t in trials))


def select_spec(bracket: Bracket, eta: int) -> StageSpec:
    """Return the stage that holds a bracket's choice; its inputs are the scored ends, those that never run included."""
    return StageSpec(
        kind=SELECT, revisions={f"stage:{SELECT}": REVISION}, sections={"search": section(SearchScience(eta=eta))},
        inputs=tuple(Input(f"{candidate.name} rung {rung}", "pretrain", stages[-1])
                     for candidate in bracket.candidates for run in candidate.runs for rung, stages in enumerate(run)))


def select_stages(search: PlanSearch | None, taken: Sequence[PlanChoice], trials: Sequence[Trial]) -> list[PlanStage]:
    """Return the stages `select` of a plan: those that a search will make, and those that a comparison rests on."""
    uses = Counter(trial.choice for trial in trials)
    cells = {b.select: (b.cell, len(b.candidates)) for b in (search.brackets if search else ())}
    cells |= {choice.select: (choice.cell, uses[choice.select]) for choice in taken}
    return [PlanStage(kind=SELECT, fingerprint=key, label=f"select {cell}", trials=count)
            for key, (cell, count) in cells.items()]


def boundary(bracket: Bracket, best: int) -> tuple[str, ...]:
    """Return the fields of which the best candidate has the smallest or largest value of several."""
    found = []
    for key, value in bracket.candidates[best].values.items():
        grid = {candidate.values[key] for candidate in bracket.candidates}
        if len(grid) > 1 and value in (min(grid), max(grid)):
            found.append(key)
    return tuple(found)


# -- cells ------------------------------------------------------------------------------------------------------------


def cell_keys(trials: Iterable[Trial], registries: Registries, scale: str) -> dict[str, str]:
    """Return cell -> key (see `Bracket.key`)."""
    first: dict[str, Trial] = {}
    for trial in trials:
        first.setdefault(_cell(trial), trial)
    plain = {cell: _reference(trial) for cell, trial in first.items()}
    paths = GraphBuilder(registries, scale, search=True).build(plain.values()).paths
    return {cell: paths[trial.id][-1].fingerprint for cell, trial in plain.items()}


def _reference(trial: Trial) -> Trial:
    """Return the trial without all in which a search and a comparison of the same cell differ."""
    core = trial.core
    return replace(trial, seed=0, core={
        **core, "evaluate": EvaluateScience(),
        "pretrain": core["pretrain"].model_copy(update={"lr": 1.0, "ends": (Fraction("100%"),)}),
        "transfer": core["transfer"].model_copy(
            update={"embedding_init": TransferScience.model_fields["embedding_init"].default}),
        "text": core["text"].model_copy(update={"split": "comparison", "search_share": None}),
    })


# -- a comparison -----------------------------------------------------------------------------------------------------


def with_choices(resolver: Resolver, trials: Sequence[Trial], choices: Sequence[Choice]
                 ) -> tuple[list[Trial], tuple[PlanChoice, ...]]:
    """Return the trials with the values that a search chose for their cells, and what was taken from it.

    They leave the search its files. What does not fit is noted: a cell that was not searched, or without a choice,
    seeds that the search has seen, and another share of the text than it states.
    """
    search, keys = str(resolver.sweep.searched), cell_keys(trials, resolver.registries, resolver.sweep.scale)
    by_key = {choice.key: choice for choice in choices}
    for place, seed in enumerate(resolver.sweep.axes["seed"]):
        if any(seed in choice.seeds for choice in choices):
            resolver.problem("axes.seed", seed, f"the search {search!r} has seen this seed; a comparison may share "
                                                "none with it", path=("axes", "seed", str(place)))
    [share] = {choice.search_share for choice in choices}
    if SHARE in resolver.sweep.fields and (given := trials[0].core["text"].search_share) != share:
        resolver.problem(f"fields.{SHARE}", given, f"the search {search!r} set {share or 'nothing'} apart; leave it "
                                                   "out: a comparison takes it from the search that it names")
    reasons = [why for cell, key in keys.items() if (why := _unfit(cell, by_key.get(key), choices, trials))]
    if reasons:
        more = f". So it is with {len(reasons) - 1} more cells" if len(reasons) > 1 else ""
        resolver.problem("searched", search, reasons[0] + more)
    resolver.raise_problems()
    made = _Sections()
    apart = {"text.search_share": share} if share else {}
    found = [replace(t, choice=choice.select, core=made.core(t.core, {**choice.values, **apart}))
             for t in trials for choice in (by_key[keys[_cell(t)]],)]
    taken = ((cell, by_key[key]) for cell, key in keys.items())
    return found, tuple(PlanChoice(cell=cell, values=dict(choice.values), boundary=choice.boundary, sweep=search,
                                   select=choice.select, search_share=share, seeds=choice.seeds,
                                   runner_up=dict(choice.runner_up), lead=choice.lead) for cell, choice in taken)


def _unfit(cell: str, choice: Choice | None, choices: Sequence[Choice], trials: Sequence[Trial]) -> str:
    """Return why a cell cannot take a choice; empty where it can."""
    if choice is not None:
        return "" if choice.values else f"every candidate of {cell} diverged; extend the search to lower learning rates"
    trial = next(t for t in trials if _cell(t) == cell)
    alike = next((c for c in choices if c.cell == cell), None)
    if alike is None:
        return f"it did not search {cell}; it has {', '.join(c.cell for c in choices)}"
    for what, there, here in (("upstream", alike.upstream_tokens, trial.upstream_tokens),
                              ("pre-training", alike.pretrain_tokens, trial.pretrain_tokens)):
        if there != here:
            return (f"it searched {cell} with {tokens_text(there)} {what} tokens, here they are {tokens_text(here)}: "
                    "what is best at one budget need not be at another")
    return (f"it searched another {cell}: other fields or another scale. All that is trained must be equal but "
            f"{' and '.join(SEARCHED)}; seeds, evaluations and pretrain.ends may differ")


class _Sections:
    """Sections with chosen values; equal ones are made once, because the graph tells sections apart by identity."""

    def __init__(self) -> None:
        self._made: dict[Any, tuple[Science, Science]] = {}

    def core(self, core: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the sections with these values: dotted field -> value."""
        found = dict(core)
        for key, value in values.items():
            prefix, _, rest = key.partition(".")
            found[prefix] = self._with(found[prefix], rest, value)
        return found

    def _with(self, model: Science, field: str, value: Any) -> Science:
        key = (id(model), field, value)
        if key not in self._made:
            copied = type(model).model_validate({**model.model_dump(), field: value})
            self._made[key] = model, copied  # the model is kept, so that its id stays its own
        return self._made[key][1]
