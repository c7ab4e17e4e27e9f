"""GSM8K's rows (`question`, `answer`) as items, and the number of a solution that a model writes.

The answer is the number behind `####`; wrong ones, as long as it, are near it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from sweeps.errors import UsageError
from workloads.contract import Item
from workloads.data.rows import read_rows
from workloads.tasks._drawn import Draw, alike
from workloads.tasks._official import files, verified

MARK = "####"
NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?", re.ASCII)
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
        near = alike(Draw(f"gsm8k/{number}"), int(text), ())
        yield Item(id=f"{number:05d}", level="test", prompt=prompt, answer=f" {int(text)}",
                   distractors=tuple(f" {n}" for n in near[:DISTRACTORS]))


def right(written: str, answer: str) -> bool:
    """Return whether a solution's number, the one behind its last `####`, is the answer's; `ItemTask.judge`.

    Thousands' commas and decimal zeros do not count. A solution without such a number is wrong.
    """
    _, mark, after = written.rpartition(MARK)
    found = NUMBER.match(after.lstrip()) if mark else None
    return found is not None and _number(found[0]) == _number(answer.rpartition(MARK)[2].strip())


def _number(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))
