"""Items: drawn ones, what every task's items must be, and the file in which a stage keeps them.

Shape suffix: C choices of an item.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sweeps.errors import RecordError, UsageError
from sweeps.store import files
from workloads.contract import Item
from workloads.tasks._drawn import Draw, DrawnScience, Make, questions, shots_of

ITEMS = "items.jsonl"


@dataclass(frozen=True, kw_only=True)
class Posed:
    """An item as every model is asked it."""

    id: str
    level: str
    prompt: str
    """Shots and prompt."""
    choices_C: tuple[str, ...]
    """The answer and the distractors, shuffled: where the right one stands says nothing."""
    gold: int
    """Place of the answer among the choices."""
    touched: Mapping[str, float] = field(default_factory=dict)
    """Domain -> share of the item's 13-grams that its training text holds; 0 where the item is shorter."""
    grams: int = 0
    """The item's 13-grams of words: with none, nothing can be told."""
    tests: str = ""

    @property
    def clean(self) -> bool:
        """Whether no training text holds any 13-gram of it."""
        return not any(self.touched.values())


def drawn(task: str, science: DrawnScience, make: Make, levels: Iterable[int]) -> list[Item]:
    """Return the items of a task that draws them, as many of each level.

    Raises:
        UsageError: a level has too few different questions.
    """
    found = []
    for level in levels:
        key = f"{task}/{science.seed}"
        shots = shots_of(make, key, level, science.shots)
        for number, q in enumerate(questions(make, key, level, science.split, science.items)):
            found.append(Item(
                id=f"{science.split}-{level}-{number:05d}", level=str(level), prompt=q.prompt, answer=q.answer,
                distractors=q.distractors, shots=shots, tests=q.tests))
    return found


def checked(task: str, items: Iterable[Item]) -> list[Item]:
    """Return the items as a list, if they are sound.

    Raises:
        UsageError: there are none, or one has no answer, repeats a choice or an id, or its texts do not join.
    """
    found = list(items)
    if not found:
        raise UsageError(f"task {task} has no items; an empty result is no score")
    seen: set[str] = set()
    for item in found:
        choices = (item.answer, *item.distractors)
        reason = (
            "its id is another item's too" if item.id in seen
            else f"its level {item.level!r} is a part of score names: no '.', not 'all'"
            if "." in item.level or item.level in ("", "all")
            else "a choice is empty" if not all(c.strip() for c in choices)
            else "two choices are alike" if len(set(choices)) < len(choices)
            else "its prompt ends in a blank; let the choices begin with it" if item.prompt[-1:].isspace()
            else "a choice does not begin with a blank" if not all(c[0].isspace() for c in choices) else "")
        if reason:
            raise UsageError(f"task {task}, item {item.id!r}: {reason}")
        seen.add(item.id)
    return found


def posed(task: str, item: Item) -> Posed:
    """Return the item with its choices in the order that its name draws."""
    choices = (item.answer, *item.distractors)
    order = Draw(f"choices/{task}/{item.id}").shuffled(range(len(choices)))
    return Posed(id=item.id, level=item.level, prompt=item.shots + item.prompt,
                 choices_C=tuple(choices[i] for i in order), gold=order.index(0), tests=item.tests)


def apart(task: str, training: Iterable[Posed], asked: Iterable[Posed]) -> None:
    """See that no training item is among those that are asked: no prompt with the same right answer.

    Raises:
        UsageError: some are.
    """
    known = {_question(item) for item in asked}
    shared = [item.id for item in training if _question(item) in known]
    if shared:
        raise UsageError(f"task {task}: {len(shared)} training items are among those that it asks, such as "
                         f"{', '.join(shared[:3])}; nothing is fine-tuned on what is then scored: give other training "
                         "items")


def _question(item: Posed) -> tuple[str, str]:
    """Return prompt and right answer, without regard to case and blanks."""
    prompt, answer = (" ".join(text.split()).casefold() for text in (item.prompt, item.choices_C[item.gold]))
    return prompt, answer


def write(path: Path, found: Sequence[Posed]) -> None:
    """Write the items, one a line."""
    files.create(path, "".join(files.to_json(asdict(item)) + "\n" for item in found))


def read(folder: Path) -> list[Posed]:
    """Return the items in an artifact folder of a stage `items`.

    Raises:
        RecordError: the file is missing, misshapen or empty.
    """
    path = folder / ITEMS
    try:
        found = [Posed(**{**line, "choices_C": tuple(line["choices_C"])}) for line in _lines(path)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RecordError(f"{path} is damaged ({error}); remove the folder of that stage to make it again") from error
    if not found:
        raise RecordError(f"{path} has no items; remove the folder of that stage to make it again")
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)


def digest(found: Iterable[Item]) -> str:
    """Return one SHA-256 over all items, hexadecimal: what a task pins."""
    total = hashlib.sha256()
    for item in found:
        total.update(files.to_json(asdict(item)).encode() + b"\n")
    return total.hexdigest()
