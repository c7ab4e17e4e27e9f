"""Word problems: somebody has things, and in each step gets, gives away or multiplies them.

Wrong choices are slips that people make: a step left out, a step done the other way round, one or ten off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from workloads.contract import Item
from workloads.downstream.items import drawn
from workloads.tasks._drawn import Draw, Question

LARGEST = (9, 20, 50)
"""Numbers of each level go up to these."""
NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jonas", "Lena", "Max")
THINGS = ("apples", "books", "cards", "coins", "cups", "eggs", "flowers", "marbles", "pens", "shells", "stamps", "toys")
DISTRACTORS = 3


class Step(NamedTuple):
    """One thing that happens."""

    text: str
    """With `{n}`."""
    forward: Callable[[int, int], int]
    wrong: Callable[[int, int], int]


STEPS = (
    Step("gets {n} more", lambda a, n: a + n, lambda a, n: a - n),
    Step("finds {n} more", lambda a, n: a + n, lambda a, n: a - n),
    Step("gives away {n} of them", lambda a, n: a - n, lambda a, n: a + n),
    Step("loses {n} of them", lambda a, n: a - n, lambda a, n: a + n),
    Step("then has {n} times as many", lambda a, n: a * n, lambda a, n: a + n),
)


def items(science: Any) -> list[Item]:
    """Return the items of all levels."""
    return drawn("arithmetic", science, make, range(1, len(LARGEST) + 1))


def make(draw: Draw, level: int) -> Question:
    """Return a problem of `level` steps; no number on the way is below 0."""
    name, thing, largest = draw.choice(NAMES), draw.choice(THINGS), LARGEST[level - 1]
    value = start = draw.between(2, largest)
    taken: list[tuple[Step, int]] = []
    for _ in range(level):
        step, n = _step(draw, value, largest)
        taken.append((step, n))
        value = step.forward(value, n)
    happened = " ".join(f"{name} {step.text.format(n=n)}." for step, n in taken)
    prompt = f"Question: {name} has {start} {thing}. {happened} How many {thing} does {name} have now?\nAnswer:"
    wrong = _slips(draw, start, taken, value)
    return Question(prompt=prompt, answer=f" {value}", distractors=tuple(f" {number}" for number in wrong))


def _step(draw: Draw, value: int, largest: int) -> tuple[Step, int]:
    while True:
        step = draw.choice(STEPS)
        n = draw.between(2, 4) if "times" in step.text else draw.between(1, largest)
        if step.forward(value, n) >= 0:
            return step, n


def _slips(draw: Draw, start: int, taken: list[tuple[Step, int]], right: int) -> list[int]:
    """Return wrong numbers: first those of a step left out or turned round, then near ones."""
    found: list[int] = []
    for skipped in range(len(taken)):
        for turned in (False, True):
            value = start
            for place, (step, n) in enumerate(taken):
                if place != skipped:
                    value = step.forward(value, n)
                elif turned:
                    value = step.wrong(value, n)
            found.append(value)
    slips = draw.shuffled(list(dict.fromkeys(found)))
    near = draw.shuffled([right + d for d in (-10, -2, -1, 1, 2, 10)])
    wrong = [v for v in dict.fromkeys([*slips, *near]) if v >= 0 and v != right]
    return wrong[:DISTRACTORS]
