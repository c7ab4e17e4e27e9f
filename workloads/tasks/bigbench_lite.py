"""Task `bigbench_lite`: JSON tasks of BIG-bench (Srivastava et al. 2022, arXiv 2206.04615), from their official files.

    fields:
      downstream.tasks: [bigbench_lite]
      bigbench_lite.paths: [/data/BIG-bench/bigbench/benchmark_tasks/*/task.json]

Name the tasks that you mean by their paths, BIG-bench Lite's or others; each is a level of its own. Tasks with
examples of several right answers are refused. There is no official dataset of it on the Hub, so `repository` has no
default.
"""

from __future__ import annotations

from typing import Literal

from sweeps.language.plugins import ItemTask
from sweeps.language.science import FinetuneScience
from workloads.tasks._official import OfficialScience, identity


class BigBenchLiteScience(OfficialScience):
    """All examples of the tasks, in their order."""

    files: tuple[str, ...] = ("*/task.json",)
    split: Literal["all", "train", "test"] = "all"
    """Which examples: the official files hold all; `test` are the fifth that a hash of their prompt says, `train` the
    others."""


def training(science: BigBenchLiteScience, recipe: FinetuneScience) -> BigBenchLiteScience:
    """Return the fields of the training examples; `sweeps.language.plugins.ItemTask.training`.

    Raises:
        ValueError: the task asks all examples.
    """
    if science.split != "test":
        raise ValueError("is asked every example; set bigbench_lite.split to test, which leaves the others to train on")
    return science.model_copy(update={"split": "train", "count": None, "sha256": ""})


PLUGIN = ItemTask(
    science=BigBenchLiteScience, revision=1, implementation="workloads.tasks._bigbench_lite:items", identity=identity,
    count=lambda science: science.count, fetch="workloads.tasks._official:fetch",
    elsewhere=lambda science: not science.paths, training=training,
    recipes={"1.6b": {"lr": 5e-6, "batch_sequences": 64}},  # release: and one epoch, whose updates the tasks decide
)
