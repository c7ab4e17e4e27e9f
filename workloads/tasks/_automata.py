"""Strings of random deterministic automata over words: each state writes a symbol and goes on to one state.

The states form a circle, and a string goes round it three times at least, so what follows has been seen to follow.
"""

from __future__ import annotations

from typing import Any

from workloads.contract import Item
from workloads.downstream.items import drawn
from workloads.tasks._drawn import Draw, Question

STATES = (2, 4, 6)
SYMBOLS = ("a", "b", "c", "d", "e", "f", "g", "h", "k", "m", "n", "p", "r", "s", "t", "x")
USED = 4
"""Symbols of one automaton; two states may write the same one, which is what makes states matter."""


def items(science: Any) -> list[Item]:
    """Return the items of all levels."""
    return drawn("automata", science, make, range(1, len(STATES) + 1))


def make(draw: Draw, level: int) -> Question:
    """Return the string of a random automaton, and the symbol that it writes next."""
    states = STATES[level - 1]
    symbols = draw.shuffled(SYMBOLS)[:USED]
    writes = [draw.choice(symbols) for _ in range(states)]
    circle = draw.shuffled(range(states))
    after = {state: circle[(place + 1) % states] for place, state in enumerate(circle)}
    state, text = circle[0], []
    for _ in range(draw.between(3 * states, 5 * states)):
        text.append(writes[state])
        state = after[state]
    answer = writes[state]
    return Question(prompt=" ".join(text), answer=f" {answer}",
                    distractors=tuple(f" {s}" for s in symbols if s != answer))
