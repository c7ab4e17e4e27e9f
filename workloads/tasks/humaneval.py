"""Task `humaneval`: Python functions with docstrings (Chen et al. 2021, arXiv 2107.03374), from the official file.

    fields:
      downstream.tasks: [humaneval]
      humaneval.paths: [/data/HumanEval.jsonl.gz]   # or humaneval.revision: a commit of openai/openai_humaneval

It has no training items: the release evaluates it without fine-tuning.

Scored by the bits of the canonical solution, and, with `humaneval.generation.samples`, by running what a model writes.
"""

from __future__ import annotations

from sweeps.language.generation import GenerationScience
from sweeps.language.plugins import ItemTask
from sweeps.language.science import Positive
from workloads.tasks._official import OfficialScience, identity


class HumanEvalGeneration(GenerationScience):
    """Of whole functions."""

    max_new_tokens: Positive = 512
    """Tokens of a program at most."""


class HumanEvalScience(OfficialScience):
    """All problems."""

    repository: str = "openai/openai_humaneval"
    files: tuple[str, ...] = ("openai_humaneval/test-*.parquet",)
    count: Positive | None = 164
    """Problems."""
    generation: HumanEvalGeneration = HumanEvalGeneration()
    """Programs that a model writes."""


PLUGIN = ItemTask(
    science=HumanEvalScience, revision=1, implementation="workloads.tasks._humaneval:items", identity=identity,
    count=lambda science: science.count, fetch="workloads.tasks._official:fetch",
    elsewhere=lambda science: not science.paths, rungs=("answer_bits",),
)
