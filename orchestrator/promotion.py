"""What a search lets run: which stages wait for their candidate's promotion, and which never run because it has lost.

Everything is recomputed from the losses whenever one arrives (`sweeps.language.asha`), so a controller that starts anew
comes to the same. A sweep that is no search has no brackets, and nothing here holds anything back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from orchestrator.targets import Plan
from sweeps.errors import RecordError
from sweeps.language.asha import Bracket, Decision, decision_of
from sweeps.store.layout import Layout
from sweeps.store.records import loss_of, read_result

Rungs = Iterator[tuple[str, int, int]]
"""Stage, candidate, rung."""


def lost_in(bracket: Bracket, decision: Decision) -> dict[str, str]:
    """Return stage -> why it never runs."""
    found = {}
    for stage, candidate, rung in stages_of(bracket):
        at = decision.lost.get(candidate, bracket.rungs)
        if rung > at:
            found[stage] = f"{bracket.cell}: the search goes on without it, it lost at rung {at + 1} of {bracket.rungs}"
    return found


def stages_of(bracket: Bracket) -> Rungs:
    """Yield every training stage of a bracket; the upstream's belong to the lowest rung."""
    for number, candidate in enumerate(bracket.candidates):
        for run in candidate.runs:
            for rung, stages in enumerate(run):
                yield from ((stage, number, rung) for stage in stages)


class Promotions:
    """The brackets of a search, and what they decide of its stages."""

    def __init__(self, brackets: Sequence[Bracket], eta: int) -> None:
        """Nothing has a loss yet: the lowest rungs may run."""
        self._brackets = brackets
        self._eta = eta
        self._losses: dict[str, float] = {}
        self._of: dict[str, set[int]] = {}
        """Stage -> numbers of its brackets; an upstream's stages serve the brackets of all domains."""
        self.held: set[str] = set()
        """Stages that wait for a promotion."""
        self.lost: dict[str, str] = {}
        """Stages that never run -> why."""
        for number, bracket in enumerate(brackets):
            for stage, _, rung in stages_of(bracket):
                self._of.setdefault(stage, set()).add(number)
                if rung:
                    self.held.add(stage)

    def note(self, stage: str, loss: float | None) -> Mapping[str, str]:
        """Take in a stage's loss; return the stages that it excludes for good, and why."""
        if loss is None or stage not in self._of:
            return {}
        self._losses[stage] = loss
        new: dict[str, str] = {}
        for number in self._of[stage]:
            new |= self._decide(self._brackets[number])
        return new

    def _decide(self, bracket: Bracket) -> dict[str, str]:
        decision = decision_of(bracket, self._eta, self._losses.get)
        for stage, candidate, rung in stages_of(bracket):
            (self.held.add if rung > decision.allowed[candidate] else self.held.discard)(stage)
        lost = lost_in(bracket, decision)
        new = {stage: why for stage, why in lost.items() if stage not in self.lost}
        self.lost |= new
        self.held -= lost.keys()
        return new

    def undecidable(self, open_: Collection[str]) -> Iterator[str]:
        """Yield the held stages that nobody will promote: of `open_` stages, nothing else of their bracket is left.

        A candidate of theirs failed or was cancelled, so the rung below will not be complete.
        """
        for number in sorted({number for stage in self.held.intersection(open_) for number in self._of[stage]}):
            left = [stage for stage, _, _ in stages_of(self._brackets[number]) if stage in open_]
            if self.held.issuperset(left):
                yield from left


# -- from the files alone ---------------------------------------------------------------------------------------------


def outranked(layout: Layout, plan: Plan) -> dict[str, str]:
    """Return stage -> why its search goes on without it; it may have been complete before that was known."""
    found: dict[str, str] = {}
    for bracket, decision in _decisions(layout, plan):
        found |= lost_in(bracket, decision)
    return found


def surplus(layout: Layout, plan: Plan) -> set[str]:
    """Return as many stages of each rung as will not run in the end. Which ones is not known yet; all cost the same."""
    found: set[str] = set()
    for bracket, decision in _decisions(layout, plan):
        lost = lost_in(bracket, decision)
        for rung, size in enumerate(decision.sizes):
            left = {c: None for stage, c, at in stages_of(bracket) if at == rung and stage not in lost}
            spare = set(list(left)[size:])
            found |= {stage for stage, c, at in stages_of(bracket) if at == rung and c in spare}
    return found


def _decisions(layout: Layout, plan: Plan) -> Iterator[tuple[Bracket, Decision]]:
    for raw in plan.search["brackets"] if plan.search else ():
        bracket = Bracket.of(raw)
        yield bracket, decision_of(bracket, plan.search["eta"], lambda key: _loss(layout, plan, key))


def _loss(layout: Layout, plan: Plan, key: str) -> float | None:
    try:
        return loss_of(read_result(layout.stage(plan.stages[key]["kind"], key)))
    except RecordError:  # for `why` to explain
        return None
