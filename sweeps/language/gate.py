"""The upstream gate's verdict, which records hold as a number: learned 1, inconclusive 0.5, not learned 0.

The rule that leads to it is stated where it is measured (`workloads/tasks/_upstream_gate.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from sweeps.language.ladder import DOWNSTREAM, DOWNSTREAM_UNTUNED, FINETUNE

GATE = "upstream_gate"
"""The task that asks whether an upstream was learned; measured for every upstream."""
LEARNED = f"{GATE}.learned"
"""Its score that holds the verdict."""
MIN_SEQUENCES = 10
"""From fewer held-out sequences the gate decides nothing: a standard error clustered by them says little."""
FOLLOWING = ("trunk", "end", "evaluate", FINETUNE, DOWNSTREAM, DOWNSTREAM_UNTUNED)
"""Roles of the steps on a trial's path that are withheld where its upstream was not learned (`gate: require`)."""


class Verdict(StrEnum):
    """Whether an upstream was learned."""

    LEARNED = "learned"
    NOT_LEARNED = "not learned"
    INCONCLUSIVE = "inconclusive"

    @property
    def number(self) -> float:
        """The verdict as records hold it."""
        return _NUMBERS[self]


_NUMBERS = {Verdict.LEARNED: 1.0, Verdict.INCONCLUSIVE: 0.5, Verdict.NOT_LEARNED: 0.0}


def verdict_of(scores: Mapping[str, float]) -> Verdict | None:
    """Return the verdict among a stage's scores; None where they hold none."""
    return next((verdict for verdict, number in _NUMBERS.items() if scores.get(LEARNED) == number), None)
