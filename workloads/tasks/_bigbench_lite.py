"""BIG-bench's `task.json` as items: `examples` with `input` and either `target_scores` (choices) or `target`.

The prompt is the task's prefix, then the input between the task's own marks (`Q:` and `A:` where it states none), as
BIG-bench's own JSON tasks are asked with no shots. An example whose best score several choices share, or with several
targets, has no one right answer, and is refused: with one of them taken for it, the others would count as wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sweeps.errors import EnvironmentError_, UsageError
from workloads.contract import Item
from workloads.tasks._drawn import split_of
from workloads.tasks._official import files, verified

INPUT, OUTPUT = "\nQ: ", "\nA: "
"""BIG-bench's defaults of `example_input_prefix` and `example_output_prefix`."""


def items(science: Any) -> list[Item]:
    """Return the items, in the order of the files.

    Raises:
        UsageError: they are not the task's, or an example has no one right answer.
        EnvironmentError_: a file is no JSON object.
    """
    found = (item for item in _items(science) if science.split in ("all", _split(item)))
    return verified("bigbench_lite", list(found), science)


def _split(item: Item) -> str:
    return "test" if split_of(item.prompt) == "test" else "train"


def _items(science: Any) -> Iterator[Item]:
    for file in files(science):
        try:
            task = json.loads(file.path.read_text(encoding="utf-8"))
            examples, name = task["examples"], str(task.get("name") or file.path.parent.name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise EnvironmentError_(f"{file.path} is no task.json of BIG-bench ({type(error).__name__}: {error}); "
                                    "bring it again") from error
        for number, example in enumerate(examples):
            yield _item(name.replace(".", "_"), number, task, example)


def _item(name: str, number: int, task: Mapping[str, Any], example: Mapping[str, Any]) -> Item:
    prompt = (task.get("task_prefix", "") + task.get("example_input_prefix", INPUT) + str(example["input"])
              + task.get("example_output_prefix", OUTPUT)).strip()
    scores = example.get("target_scores")
    if scores:
        best = [choice for choice, score in scores.items() if score == max(scores.values())]
        if len(best) != 1:
            raise UsageError(f"bigbench_lite, {name}, example {number}: {len(best)} choices share the best score; "
                             "leave that task out")
        wrong = tuple(f" {choice.strip()}" for choice in scores if choice != best[0])
        return Item(id=f"{name}-{number}", level=name, prompt=prompt, answer=f" {best[0].strip()}", distractors=wrong)
    target = example["target"]
    right = {str(text).strip() for text in (target if isinstance(target, list) else [target])}
    if len(right) != 1:
        raise UsageError(f"bigbench_lite, {name}, example {number}: {len(right)} targets count as right, and one text "
                         "is scored; leave that task out")
    return Item(id=f"{name}-{number}", level=name, prompt=prompt, answer=f" {right.pop()}")
