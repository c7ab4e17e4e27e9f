"""GSM8K's rows (`question`, `answer`) as items. The answer is the number behind `####`; wrong ones are made from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sweeps.errors import UsageError
from workloads.contract import Item
from workloads.data.rows import read_rows
from workloads.tasks._drawn import Draw
from workloads.tasks._official import files, verified

MARK = "####"
NEAR = (-10, -2, -1, 1, 2, 10)
DISTRACTORS = 3


def items(science: Any) -> list[Item]:
    """Return the items, in the order of the files.

    Raises:
        UsageError: they are not the task's.
    """
    return verified("gsm8k", list(_items(science)), science)


def _items(science: Any) -> Iterator[Item]:
    for number, row in enumerate(row for file in files(science)
                                  for row in read_rows(file, ("question", "answer"))):
        _, mark, after = row["answer"].rpartition(MARK)
        text = after.strip().replace(",", "")
        if not mark or not text.lstrip("-").isdigit():
            raise UsageError(f"gsm8k, row {number}: its answer ends in {after.strip()!r}, not in '{MARK} NUMBER'")
        prompt = f"Question: {row['question'].strip()}\nAnswer:"
        if science.worked:
            yield Item(id=f"{number:05d}", level="test", prompt=prompt, answer=f" {row['answer'].strip()}")
            continue
        near = Draw(f"gsm8k/{number}").shuffled([int(text) + d for d in NEAR])
        yield Item(id=f"{number:05d}", level="test", prompt=prompt, answer=f" {int(text)}",
                   distractors=tuple(f" {n}" for n in near[:DISTRACTORS]))
