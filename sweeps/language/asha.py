"""Which candidates of a search go on: asynchronous successive halving (ASHA; Li et al. 2020, arXiv 1810.05934). Pure.

A bracket holds the candidates of one cell. `decide` looks at the losses that there are, and at nothing else: called
again after a restart it says the same. It differs from the paper in one point. There a candidate that was promoted
early is never taken back, so that the result depends on who came first; here a rung counts only those who belong to
it, so that the best of the last rung is that of synchronous halving, whatever the order in which losses arrived.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SELECT = "select"
"""Kind of the stage that holds a choice. The controller folds it from records; no job runs it."""

Losses = Mapping[tuple[int, int], float]
"""(candidate, rung) -> mean held-out loss in nats per token; infinite where it diverged, absent where none is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """Values that may be chosen, and what trains them. A plain dataclass, as `PathStep` is."""

    values: dict[str, Any]
    """Searched field -> value."""
    runs: tuple[tuple[tuple[str, ...], ...], ...]
    """Seed -> rung -> the stages that lead to it from the rung below, the scored one last."""

    @property
    def name(self) -> str:
        """Its values as its trials' labels have them: `lr=0.004 embedding_init=1.0`."""
        return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.values.items())


@dataclass(frozen=True, kw_only=True, slots=True)
class Bracket:
    """The candidates of one cell, in the order of the grid."""

    cell: str
    """For people: `nca 60-75 | code`."""
    key: str
    """What the cell trains, apart from what is searched; a comparison's cell of the same key takes the choice."""
    select: str = ""
    """Fingerprint of the stage that holds the choice."""
    upstream_tokens: int
    pretrain_tokens: int
    candidates: tuple[Candidate, ...]

    @property
    def rungs(self) -> int:
        """How many there are."""
        return len(self.candidates[0].runs[0])

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Bracket:
        """Return the bracket that plan.json states."""
        candidates = (Candidate(values=c["values"], runs=tuple(
            tuple(tuple(stages) for stages in rungs) for rungs in c["runs"])) for c in raw["candidates"])
        return cls(**{**raw, "candidates": tuple(candidates)})


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What follows from the losses of a bracket so far."""

    allowed: tuple[int, ...]
    """Candidate -> the highest rung that it may run now."""
    lost: Mapping[int, int]
    """Candidate -> the rung at which it lost, for good: no loss that may still come changes it."""
    sizes: tuple[int, ...]
    """Rung -> how many belong to it in the end; an upper limit where that is not known yet."""
    over: bool
    """Nothing is left to run."""
    best: int | None = None
    """The choice; None where it is not over, or where every candidate diverged."""


def decide(losses: Losses, *, candidates: int, rungs: int, eta: int) -> Decision:
    """Return who may go on, who has lost and, at the end, who is the best.

    Args:
        losses: those known so far.
        candidates: how many there are; all of them run the lowest rung.
        rungs: how many there are.
        eta: of those at a rung, one in `eta` goes on (at least one).
    """
    allowed, sizes = [0] * candidates, list[int]()
    lost = {c: rung for c, rung in sorted(losses, reverse=True) if losses[c, rung] == math.inf}
    members, size, settled = list(range(candidates)), candidates, True
    ranked: list[int] = []
    for rung in range(rungs):
        sizes.append(size)
        ended = [c for c in members if (c, rung) in losses]
        ranked = sorted((c for c in ended if losses[c, rung] < math.inf), key=lambda c: losses[c, rung])  # stable
        quota = 1 if rung == rungs - 1 else max(1, size // eta)
        if settled:  # only then does everybody who is ahead count
            lost |= dict.fromkeys(ranked[quota:], rung)
        settled = settled and len(ended) == size
        members = sorted(ranked[:quota if settled else len(ended) // eta])
        size = len(members) if settled else quota
        if rung < rungs - 1:
            for candidate in members:
                allowed[candidate] = rung + 1
    return Decision(allowed=tuple(allowed), lost=lost, sizes=tuple(sizes), over=settled,
                    best=ranked[0] if settled and ranked else None)


def decision_of(bracket: Bracket, eta: int, loss: Callable[[str], float | None]) -> Decision:
    """Return what follows from the losses of a bracket's stages; `loss`: as for `losses_of`."""
    return decide(losses_of(bracket, loss), candidates=len(bracket.candidates), rungs=bracket.rungs, eta=eta)


def losses_of(bracket: Bracket, loss: Callable[[str], float | None]) -> dict[tuple[int, int], float]:
    """Return the losses of a bracket's candidates.

    Args:
        bracket: the candidates.
        loss: stage -> its loss; infinite where it diverged, None where it has no result.
    """
    found: dict[tuple[int, int], float] = {}
    for number, candidate in enumerate(bracket.candidates):
        for rung in range(bracket.rungs):
            mean = _mean([[loss(stage) for stage in run[rung]] for run in candidate.runs])
            if mean is not None:
                found[number, rung] = mean
    return found


def _mean(runs: list[list[float | None]]) -> float | None:
    """Return the mean over seeds of the last stage's loss; infinite where any stage diverged, None where one lacks."""
    if any(value is not None and not math.isfinite(value) for run in runs for value in run):
        return math.inf
    ends = [run[-1] for run in runs]
    return None if None in ends else math.fsum(end for end in ends if end is not None) / len(ends)
