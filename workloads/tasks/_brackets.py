"""Words of the Dyck language of four bracket pairs, cut before a bracket that must close.

All inside the asked bracket is balanced, and a few brackets stay open around it, so the answer is the partner of the
last one that is open: what stands last says nothing.
"""

from __future__ import annotations

from typing import Any

from workloads.contract import Item
from workloads.downstream.items import drawn
from workloads.tasks._drawn import Draw, Question

PAIRS = (("(", ")"), ("[", "]"), ("{", "}"), ("<", ">"))
INSIDE = (2, 6, 16)
"""Brackets between the asked one and the end."""
AROUND = 4
"""Brackets that are open before it."""


def items(science: Any) -> list[Item]:
    """Return the items of all levels."""
    return drawn("brackets", science, make, range(1, len(INSIDE) + 1))


def make(draw: Draw, level: int) -> Question:
    """Return open brackets, the asked one, and a balanced word."""
    around = [draw.choice(PAIRS)[0] for _ in range(AROUND)]
    opening, closing = draw.choice(PAIRS)
    word = [*around, opening, *_balanced(draw, INSIDE[level - 1])]
    wrong = tuple(f" {close}" for _, close in PAIRS if close != closing)
    return Question(prompt=" ".join(word), answer=f" {closing}", distractors=wrong)


def _balanced(draw: Draw, length: int) -> list[str]:
    """Return a balanced word of `length` brackets."""
    found: list[str] = []
    stack: list[str] = []
    while len(found) < length:
        must_close = len(stack) == length - len(found)
        if stack and (must_close or draw.below(2)):
            found.append(stack.pop())
        else:
            opening, closing = draw.choice(PAIRS)
            found.append(opening)
            stack.append(closing)
    return found
