"""Downstream scores of every arm: against chance, a unigram model, the untrained twin, and scratch. Pure, on a study.

A number counts only where the model beats something: a row that beats neither chance nor the unigram model nor its own
untrained twin says `no signal`, and is not compared with scratch.

All arms and seeds answer the same items, so differences are paired by item and seed, and intervals are over both: what
other items and other seeds would give (`two_way.py`). Where a stage has left no records of its items, they are over
seeds alone, on these items, and the row says so. Where it has, and they are lost, there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from analysis.item_records import ALL, Floats, Items, read_items
from analysis.statistics import exact_interval
from analysis.study import Study, once
from analysis.two_way import TwoWay, two_way_t
from sweeps.language.ladder import (
    CHOICES,
    DOWNSTREAM,
    DOWNSTREAM_TWIN,
    DOWNSTREAM_UNTUNED,
    EXACT,
    FINETUNE,
    NO_SANDBOX,
    PASS,
    SANDBOX,
    SHARE,
    TEXT,
    TEXT_RUNG,
    TEXT_TASK,
    UNSAFE,
    Rung,
    rung_of,
)

REFERENCES = ("chance", "unigram", "twin")
ZERO_OR_ALL = (EXACT, PASS)
"""What is 0 for an item that was never right: none or all right has an exact bound."""
GUESSED = tuple(rung for rung in CHOICES if rung != "margin")
"""What is a share of 1 where the choices are given; so are `ZERO_OR_ALL`, where a choice is what is written."""
NO_SIGNAL = "no signal"
LOST = "records of items lost: no interval"
TWIN, UNTUNED = "twin", "untuned"
ROLES = {TWIN: DOWNSTREAM_TWIN, UNTUNED: DOWNSTREAM_UNTUNED, "": DOWNSTREAM}
"""What a score is of -> the role of the stage that has it; chance's and the unigram model's are beside the model's."""
TEXT_ROLES = {"evaluate": DOWNSTREAM, "twin": DOWNSTREAM_TWIN}
"""Role of the stage that measures held-out text -> role of the one that scores the items on the same model."""
UNSAFE_MARK = " (unsafe)"
"""Stands behind what rests on programs that ran in no sandbox, wherever there is no column that says so."""
UNSAFE_MEANS = "(unsafe): programs that models wrote ran in no sandbox, by --unsafe-exec."
GUESSED_AWAY = 0.99
"""Share that guessing gets from which on nothing is corrected: what is divided by is next to nothing."""
NOT_EVALUABLE, NO_BOX = "not evaluable", "not evaluated: no sandbox"


@dataclass(frozen=True, kw_only=True)
class Score:
    """One rung of one level of a task, for one arm in one domain."""

    domain: str
    arm: str
    task: str
    level: str
    name: str
    rung: Rung
    value: TwoWay
    references: Mapping[str, float]
    """Means of `REFERENCES` over the seeds that have both; NaN where there is none."""
    corrected: float
    """The mean corrected for guessing, (mean - g) / (1 - g) with g = 1 - (1 - 1/m)^k: what who names one of the m
    choices at random gets in k tries. NaN where that is not known or nearly all (`GUESSED_AWAY`), or what is written
    is no choice."""
    beats: str
    """Which of them the arm beats: `chance, twin`; `no signal`; or why nobody can tell."""
    difference: TwoWay
    """To scratch of the same seed: arm minus scratch, in the rung's unit; none where there is no signal."""
    clean: float
    """Mean without the items that a training text holds in part; NaN where there are no such items."""
    items: int
    """Items of the task."""
    not_evaluable: int
    """Seeds without a value: logits that are not finite, too many prompts that lose their beginning, or no sandbox for
    the programs that the model would write."""
    sandbox: str
    """What the task's programs ran in; empty: it asks for none. `unsafe`: in none, as a person has asked."""


@once
def downstream(study: Study) -> list[Score]:
    """Return every rung of every level, task, arm and domain, in the plan's order and that of the ladder."""
    return list(_scores(study))


def _scores(study: Study) -> Iterator[Score]:
    found = _Values(study)
    for domain, arm, trials, name, rung in _rungs(study, found):
        yield _score(study, found, (domain, arm), trials, name, rung)


def _rungs(study: Study, found: _Values) -> Iterator[tuple[str, str, list[str], str, Rung]]:
    """Yield domain, arm, its trials, `TASK.LEVEL.RUNG` and what that rung is, for each that any trial has."""
    # also where one arm has none; where no arm has a value, chance has one
    names = dict.fromkeys(name.removesuffix(".chance") for scores in found.own.values() for name in scores)
    for (domain, arm), rows in sorted(study.cells.items(), key=lambda c: (
            study.records.domains.index(c[0][0]), study.records.arms.index(c[0][1]))):
        trials = [str(row["trial"]) for row in rows]
        for name in names:
            rung = TEXT_RUNG if _of_text(name) else rung_of(name.rpartition(".")[2])
            if rung is not None and name.count(".") == 2:
                yield domain, arm, trials, name, rung


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """One rung of one level of a task, for one arm in one domain, before and after its fine-tuning."""

    domain: str
    arm: str
    task: str
    level: str
    name: str
    rung: Rung
    before: float
    after: float
    """Means over the seeds that have both."""
    difference: TwoWay
    """After minus before, on the same items and seeds."""
    sandbox: str
    """What the task's programs ran in, before or after; as of `Score`."""


def tuned(study: Study) -> Iterator[Tuned]:
    """Yield what fine-tuning did, in the order of `downstream`."""
    found = _Values(study)
    for domain, arm, trials, name, rung in _rungs(study, found):
        pairs = [_Pair(t, t, UNTUNED) for t in trials
                 if math.isfinite(found.mean(t, name)) and math.isfinite(found.mean(t, name, UNTUNED))]
        if pairs:
            task, level, rung_name = name.split(".")
            yield Tuned(domain=domain, arm=arm, task=task, level=level, name=rung_name, rung=rung,
                        before=_mean([found.mean(p.trial, name, UNTUNED) for p in pairs]),
                        after=_mean([found.mean(p.trial, name) for p in pairs]), difference=found.interval(name, pairs),
                        sandbox=found.sandboxes(trials, task, UNTUNED))


@once
def by_seed(study: Study) -> dict[tuple[str, str, str], dict[int, float]]:
    """Return (domain, arm, `TASK.LEVEL.RUNG`) -> seed -> the model's mean over items; nothing without a score."""
    found = _Values(study)
    scored = {(domain, arm, name): {int(study.trials[t]["seed"]): value for t in trials
                                    if math.isfinite(value := found.mean(t, name))}
              for domain, arm, trials, name, _ in _rungs(study, found)}
    return {key: seeds for key, seeds in scored.items() if seeds}


@once
def unsafe(study: Study) -> set[tuple[str, str, str]]:
    """Return (domain, arm, `TASK.LEVEL.RUNG`) of what rests on programs of which some ran in no sandbox."""
    found = _Values(study)
    return {(domain, arm, name) for domain, arm, trials, name, _ in _rungs(study, found)
            if name.rpartition(".")[2].startswith(ZERO_OR_ALL)
            and UNSAFE in found.sandboxes(trials, name.partition(".")[0]).split(", ")}


def unsafe_mark(study: Study, domain: str, name: str, arm: str = "") -> str:
    """Return `UNSAFE_MARK` for `TASK.LEVEL.RUNG` of an arm that rests on such programs; empty for others.

    Without an arm: of any, scratch included, for what compares them.
    """
    return UNSAFE_MARK if any((d, n) == (domain, name) and a == (arm or a) for d, a, n in unsafe(study)) else ""


def differences(study: Study, rung: str) -> dict[tuple[str, str], list[Floats]]:
    """Return (domain, task) -> for each arm with records of its items the differences to scratch, (I, S).

    All levels, on one rung of the ladder.
    """
    found, made = _Values(study), dict[tuple[str, str], list[Floats]]()
    for domain, _, trials, name, _ in _rungs(study, found):
        task, level, rung_name = name.split(".")
        if (level, rung_name) == (ALL, rung):
            pairs = _to_scratch(study, found, [t for t in trials if math.isfinite(found.mean(t, name))], name)
            table_IS = found.table(name, pairs)
            if table_IS is not None:
                made.setdefault((domain, task), []).append(table_IS)
    return made


class _Pair(NamedTuple):
    """A trial's score, and what it is compared with."""

    trial: str
    other: str = ""
    """Trial of the other score; empty: none, the score as it is."""
    of: str = ""
    """What of the other trial: one of `REFERENCES`, or empty: its own score."""


class _Values:
    """Scores by trial and name, as means and item by item."""

    def __init__(self, study: Study) -> None:
        frame = study.records.scores
        self.by_role: dict[str, dict[str, dict[str, float]]] = {role: {} for role in ROLES.values()}
        asked = set(frame["role"]) & self.by_role.keys()
        for trial, role, name, value in zip(*(frame[c] for c in ("trial", "role", "name", "value")), strict=True):
            if asked and role in TEXT_ROLES and _of_text(str(name)):
                role = TEXT_ROLES[role]
            if role in self.by_role:
                self.by_role[role].setdefault(str(trial), {})[str(name)] = float(value)
        self.own = self.by_role[DOWNSTREAM]
        steps = study.records.steps
        broken = steps[steps["role"].isin([DOWNSTREAM, FINETUNE]) & (steps["status"] == "diverged")]
        trained = {t for t, row in study.trials.items() if row["status"] == "diverged"}
        self.diverged = trained | set(broken["trial"].astype(str))
        self.paths = study.records.items

    def mean(self, trial: str, name: str, of: str = "") -> float:
        """Return a mean over items: the model's own, before its fine-tuning, or what one of `REFERENCES` gets."""
        if of in ROLES:
            return self.by_role[ROLES[of]].get(trial, {}).get(name, math.nan)
        return self.own.get(trial, {}).get(f"{name}.{of}", math.nan)

    def evaluable(self, trial: str, name: str) -> bool:
        """Return whether a trial's model could be scored so, as far as is known."""
        own = self.own.get(trial, {})
        return name in own if f"{name.partition('.')[0]}.items" in own else trial not in self.diverged

    def sandboxes(self, trials: Sequence[str], task: str, *before: str) -> str:
        """Return what the programs of these trials ran in; `before`: also those of other models, as in `ROLES`."""
        names = {name for of in ("", *before) for trial in trials for name in self.by_role[ROLES[of]].get(trial, {})
                 if name.startswith(f"{task}.{SANDBOX}.")}
        return ", ".join(sorted(name.rpartition(".")[2] for name in names))

    def guessing(self, trial: str, name: str) -> float:
        """Return what guessing gets on a rung: 1 - (1 - 1/m)^k, the mean over its items of m choices.

        The items' records say each 1/m: it is what chance gets on `cloze`.
        """
        task, level, rung = name.split(".")
        judged = f"{task}.programs.truncated" in self.own.get(trial, {})
        if rung not in GUESSED and (judged or not rung.startswith(ZERO_OR_ALL)):
            return math.nan
        tries, one = int(rung.removeprefix(PASS)) if rung.startswith(PASS) else 1, f"{task}.{level}.cloze"
        items = self._items(trial, one, "chance")
        if items is None:
            return self.mean(trial, one, "chance") if tries == 1 else math.nan
        return float(np.mean(1.0 - (1.0 - items[1])**tries))

    def interval(self, name: str, pairs: Sequence[_Pair]) -> TwoWay:
        """Return the mean of own minus other: over items and seeds, where all have records of the same items.

        Else over seeds, of the means; without an interval where records that a result states are lost.
        """
        found_IS = self.table(name, pairs)
        if found_IS is not None:
            return two_way_t(found_IS)
        made = two_way_t(np.array([[self.mean(p.trial, name) - (self.mean(p.other, name, p.of) if p.other else 0.0)
                                    for p in pairs]]).reshape(1, len(pairs)))
        lost = any(self._lost(p.trial, name) or (p.other and self._lost(p.other, name, p.of)) for p in pairs)
        if not lost or made.note:
            return made
        return replace(made, low=math.nan, high=math.nan, detectable=math.nan, note=LOST)

    def table(self, name: str, pairs: Sequence[_Pair]) -> Floats | None:
        """Return (I, S) own minus other, item by item; None where not all have records of the same items."""
        columns = [self._column(name, pair) for pair in pairs]
        known = [column for column in columns if column is not None]
        if not known or len(known) < len(columns) or len({ids for ids, _ in known}) > 1:
            return None
        return np.stack([values for _, values in known], axis=1)

    def _column(self, name: str, pair: _Pair) -> tuple[tuple[str, ...], Floats] | None:
        """Return ids of items and own minus other for each; None where they are not both known of the same items."""
        own = self._items(pair.trial, name)
        if own is None or not pair.other:
            return own
        other = self._items(pair.other, name, pair.of)
        return (own[0], own[1] - other[1]) if other is not None and other[0] == own[0] else None

    def _lost(self, trial: str, name: str, of: str = "") -> bool:
        key = trial, ROLES.get(of, DOWNSTREAM), name.partition(".")[0]
        return key in self.paths and self._read(key) is None

    def _read(self, key: tuple[str, str, str]) -> Items | None:
        path = self.paths.get(key)
        return read_items(path) if path is not None else None

    def _items(self, trial: str, name: str, of: str = "") -> tuple[tuple[str, ...], Floats] | None:
        task, level, rung = name.split(".")
        items = self._read((trial, ROLES.get(of, DOWNSTREAM), task))
        return items.of(level, rung if of in ROLES else f"{rung}.{of}") if items else None


def _of_text(name: str) -> bool:
    """Tell whether a score is `domain_loss.DOMAIN.bits_per_byte`, the model's own or a guess's beside it."""
    task, _, measured = name.partition(".")
    return task == TEXT_TASK and TEXT in measured.split(".")[1:2]


def _score(study: Study, found: _Values, cell: tuple[str, str], trials: list[str], name: str, rung: Rung) -> Score:
    task, level, rung_name = name.split(".")
    own = [t for t in trials if name in found.own.get(t, {})]
    items = int(max((found.own.get(t, {}).get(f"{task}.items", 0.0) for t in trials), default=0.0))
    compared = {of: [_Pair(t, t, of) for t in own if math.isfinite(found.mean(t, name, of))] for of in REFERENCES}
    sandbox, lost = found.sandboxes(trials, task), sum(not found.evaluable(t, name) for t in trials)
    beats = _beats({of: found.interval(name, pairs) for of, pairs in compared.items() if pairs}, rung)
    if not own:
        beats = NO_BOX if sandbox == NO_SANDBOX else NOT_EVALUABLE if lost else ""
    value = found.interval(name, [_Pair(t) for t in own])
    if rung.unit == SHARE:  # t knows no bounds; what lies beyond them cannot be the mean
        value = replace(value, low=max(value.low, 0.0), high=min(value.high, 1.0))
    return Score(
        domain=cell[0], arm=cell[1], task=task, level=level, name=rung_name, rung=rung, beats=beats, items=items,
        value=_bounded(value, items if level == ALL else value.items) if rung_name.startswith(ZERO_OR_ALL) else value,
        corrected=_corrected(value.mean, _mean([found.guessing(t, name) for t in own])),
        references={of: _mean([found.mean(p.trial, name, of) for p in pairs]) for of, pairs in compared.items()},
        difference=found.interval(name, [] if beats == NO_SIGNAL else _to_scratch(study, found, own, name)),
        clean=_mean([c for t in own if math.isfinite(c := found.mean(t, name, "clean"))]),
        not_evaluable=lost, sandbox=sandbox,
    )


def _to_scratch(study: Study, found: _Values, own: Sequence[str], name: str) -> list[_Pair]:
    """Return each trial with its scratch, where it has one that is scored; none for scratch itself."""
    pairs = (_Pair(t, str(study.trials[t]["baseline"])) for t in own if not study.trials[t]["is_baseline"])
    return [pair for pair in pairs if math.isfinite(found.mean(pair.other, name))]


def _beats(differences: Mapping[str, TwoWay], rung: Rung) -> str:
    """Return which references are beaten, from own minus theirs."""
    few = next((i.note for i in differences.values() if i.note), "")
    won = [of for of, interval in differences.items() if interval.resolved == rung.sign]
    return ", ".join(won) or few or NO_SIGNAL


def _bounded(value: TwoWay, items: int) -> TwoWay:
    """Return a share that is 0, or 1, for every item with its exact bounds (Clopper and Pearson).

    Seeds answer the same items, so they add none.
    """
    if items < 2 or value.mean not in (0.0, 1.0) or value.note == LOST:
        return value
    low, high = exact_interval(int(value.mean) * items, items)
    return replace(value, low=low, high=high)


def _corrected(mean: float, guessing: float) -> float:
    return (mean - guessing) / (1.0 - guessing) if guessing < GUESSED_AWAY else math.nan


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
