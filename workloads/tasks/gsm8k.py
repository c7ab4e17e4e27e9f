"""Task `gsm8k`: grade-school word problems (Cobbe et al. 2021, arXiv 2110.14168), from its official files.

    fields:
      downstream.tasks: [gsm8k]
      gsm8k.paths: [/data/grade-school-math/test.jsonl]   # or gsm8k.revision: a commit of openai/gsm8k
      downstream.finetune: [gsm8k]
      gsm8k.training_paths: [/data/grade-school-math/train.jsonl]
      gsm8k.generation.samples: 10   # protocols paper and release: the default

Without `generation` the number is asked for at once, and scored by likelihood. With it, a model writes solutions, and
the number behind the last `####` of each counts: what a model that was fine-tuned on worked solutions can do.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from sweeps.language.generation import GenerationScience
from sweeps.language.plugins import ASIDE, ItemTask
from sweeps.language.science import FinetuneScience, Positive
from workloads.data.file_domain import absolute
from workloads.tasks._official import OfficialScience, identity


class Gsm8kGeneration(GenerationScience):
    """Of worked solutions."""

    max_new_tokens: Positive = 256
    """Tokens of a solution at most."""


class Gsm8kScience(OfficialScience):
    """The test split."""

    repository: str = "openai/gsm8k"
    files: tuple[str, ...] = ("main/test-*.parquet",)
    count: Positive | None = 1_319
    """Problems of the test split."""
    training_paths: Annotated[tuple[str, ...], BeforeValidator(absolute), Field(json_schema_extra=dict(ASIDE))] = ()
    """Files of the training split, for fine-tuning, where `paths` gives those of the test split."""
    training_files: tuple[str, ...] = ("main/train-*.parquet",)
    """The same of the dataset on the Hub."""
    training_count: Positive | None = 7_473
    """Problems of the training split."""
    worked: bool = False
    """True: an answer is the worked solution up to its number, and there are no wrong choices."""
    generation: Gsm8kGeneration = Gsm8kGeneration()
    """Solutions that a model writes."""


def training(science: Gsm8kScience, recipe: FinetuneScience) -> Gsm8kScience:
    """Return the fields of the training split; `sweeps.language.plugins.ItemTask.training`.

    Raises:
        ValueError: it is not said where that lies, or what is learned would not be scored.
    """
    if science.paths and not science.training_paths:
        raise ValueError("needs gsm8k.training_paths, the files of its training split")
    if recipe.worked and not (science.worked or science.generation.samples):
        raise ValueError("is fine-tuned on worked solutions, but asked for the number at once; set "
                         "gsm8k.generation.samples (10), so that solutions are written and read, or "
                         "finetune.worked: false")
    return science.model_copy(update={
        "paths": science.training_paths, "files": science.training_files, "count": science.training_count,
        "training_paths": (), "sha256": "", "worked": recipe.worked or science.worked})


PLUGIN = ItemTask(
    science=Gsm8kScience, revision=2, implementation="workloads.tasks._gsm8k:items", identity=identity,
    count=lambda science: science.count, fetch="workloads.tasks._official:fetch",
    elsewhere=lambda science: not science.paths, training=training,
    judge="workloads.tasks._gsm8k:right", stops=("\nQuestion:",),
    protocols={"paper": {"generation.samples": 10}, "release": {"generation.samples": 10}},
    recipes={"1.6b": {"lr": 1e-5, "batch_sequences": 512, "updates": 146}, "paper": {"worked": True},
             "release": {"worked": True}},  # its README: 10 epochs of 7,473 at 1e-5, on chain-of-thought traces
)
