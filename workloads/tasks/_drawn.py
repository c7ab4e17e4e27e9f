"""Items drawn from a seed, with splits that share no question.

A question belongs to the split that a hash of its text says, whatever the seed; what is drawn for another split, or was
drawn before, is drawn again. So the test items of one seed are never the training items of another.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from sweeps.errors import UsageError
from sweeps.language.plugins import Science
from sweeps.language.science import FinetuneScience

Split = Literal["train", "validation", "test"]

PARTS = 10
SPLITS: dict[Split, range] = {"train": range(0, 6), "validation": range(6, 8), "test": range(8, 10)}
"""Split -> the hashes modulo 10 that belong to it."""
TRIES = 200
"""Draws per item, at most: a level with too few questions is an error, never a loop."""

Value = TypeVar("Value")


class DrawnScience(Science):
    """Which items are drawn."""

    items: Annotated[int, Field(gt=0)] = 100
    """Items of each level."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the items. Not the trial's: all seeds and arms of a sweep answer the same questions."""
    split: Split = "test"
    """No question is in two splits."""
    shots: Annotated[int, Field(ge=0, le=32)] = 0
    """Solved examples before each question, of its level, from the training split."""


def training(science: DrawnScience, recipe: FinetuneScience) -> DrawnScience:
    """Return the fields of the training items; `sweeps.language.plugins.ItemTask.training`.

    Raises:
        ValueError: the task asks its training split.
    """
    if science.split == "train":
        raise ValueError("is asked its training split; leave out its field split, or set it to test")
    return science.model_copy(update={"split": "train", "items": recipe.items})


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a task draws."""

    prompt: str
    answer: str
    distractors: tuple[str, ...]
    tests: str = ""


class Draw:
    """Random choices from a key. Of `random` only `random()` is used, the one that never changes with a version."""

    def __init__(self, key: str) -> None:
        """Begin the stream of `key`."""
        self._random = random.Random(hashlib.sha256(key.encode()).digest())

    def below(self, limit: int) -> int:
        """Return a number from 0 to `limit` - 1."""
        return int(self._random.random() * limit)

    def between(self, low: int, high: int) -> int:
        """Return a number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def choice(self, values: Sequence[Value]) -> Value:
        """Return one of the values."""
        return values[self.below(len(values))]

    def shuffled(self, values: Sequence[Value]) -> list[Value]:
        """Return the values in a random order (Fisher and Yates)."""
        found = list(values)
        for i in range(len(found) - 1, 0, -1):
            j = self.below(i + 1)
            found[i], found[j] = found[j], found[i]
        return found


Make = Callable[[Draw, int], Question]
"""(draw, level) -> a question of that level; levels count from 1, or from 0 where a task has an entry level."""


def split_of(prompt: str) -> Split:
    """Return the split that a question belongs to."""
    number = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") % PARTS
    return next(name for name, numbers in SPLITS.items() if number in numbers)


def questions(make: Make, key: str, level: int, split: str, count: int) -> Iterator[Question]:
    """Yield `count` different questions of a level and split.

    Raises:
        UsageError: the level does not have so many.
    """
    draw, seen = Draw(f"{key}/{level}/{split}"), set[str]()
    for _ in range(TRIES * count):
        if len(seen) == count:
            return
        found = make(draw, level)
        if found.prompt not in seen and split_of(found.prompt) == split:
            seen.add(found.prompt)
            yield found
    if len(seen) < count:
        raise UsageError(f"level {level} of {key.partition('/')[0]} has no {count} different questions for split "
                         f"{split!r} (found {len(seen)}); ask for fewer items")


def shots_of(make: Make, key: str, level: int, count: int) -> str:
    """Return `count` solved examples of a level from the training split."""
    return "".join(f"{q.prompt}{q.answer}\n\n" for q in questions(make, f"{key}/shots", level, "train", count))
