"""HumanEval's rows as items: the prompt, the canonical solution as the answer, and the tests for whatever runs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workloads.contract import Item
from workloads.data.rows import read_rows
from workloads.tasks._official import files, verified

COLUMNS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")


def items(science: Any) -> list[Item]:
    """Return the items, in the order of the files.

    Raises:
        UsageError: they are not the task's.
    """
    return verified("humaneval", list(_items(science)), science)


def _items(science: Any) -> Iterator[Item]:
    for file in files(science):
        for row in read_rows(file, COLUMNS):
            prompt = str(row["prompt"]).rstrip()
            blank = str(row["prompt"])[len(prompt):] or "\n"  # the answer begins with the blanks between the two
            yield Item(id=str(row["task_id"]), level="test", prompt=prompt,
                       answer=blank + str(row["canonical_solution"]),
                       tests=f"{row['test']}\ncheck({row['entry_point']})\n")
