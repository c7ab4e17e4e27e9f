"""In-context recall in words: associative recall, which an induction head solves (Olsson et al. 2022)."""

from __future__ import annotations

from typing import Any

from workloads.contract import Item
from workloads.downstream.items import drawn
from workloads.tasks._drawn import Draw, Question

PAIRS = (2, 4, 8)
WORDS = (
    "back", "case", "child", "city", "company", "country", "day", "eye", "fact", "family", "friend", "game",
    "government", "group", "hand", "home", "house", "issue", "job", "law", "life", "line", "man", "money",
    "month", "name", "night", "number", "office", "part", "place", "point", "power", "problem", "program",
    "question", "right", "school", "state", "story", "student", "study", "system", "team", "thing", "time",
    "water", "way", "week", "woman", "word", "work", "world", "year",
)


def items(science: Any) -> list[Item]:
    """Return the items of all levels."""
    return drawn("induction", science, make, range(1, len(PAIRS) + 1))


def make(draw: Draw, level: int) -> Question:
    """Return different words with different digits, and one of the words again."""
    pairs = PAIRS[level - 1]
    words, digits = draw.shuffled(WORDS)[:pairs], draw.shuffled(range(10))[:pairs]
    asked = draw.below(pairs)
    told = "".join(f"{word} {digit}\n" for word, digit in zip(words, digits, strict=True))
    return Question(prompt=told + words[asked], answer=f" {digits[asked]}",
                    distractors=tuple(f" {d}" for d in digits if d != digits[asked]))
