"""What models write, for downstream tasks that judge it. A task has it as its field `generation`."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import Field, model_validator

from sweeps.language.plugins import Science
from sweeps.language.science import Passes, Positive

FIELD = "generation"
S = TypeVar("S", bound=Science)


class GenerationScience(Science):
    """What a model writes for each item: one text greedily, and `samples` drawn ones.

    They are programs that are judged by running them, or what the task's own judge reads (`ItemTask.judge`).
    """

    samples: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Texts drawn for each item; 0: none is written, and the task is scored by likelihood alone."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.8
    """What logits are divided by."""
    max_new_tokens: Positive = 128
    """Tokens of a text at most."""
    passes: Passes = (1, 10)
    """k of the rungs `pass@k`."""

    @model_validator(mode="after")
    def _enough(self) -> GenerationScience:
        if 0 < self.samples < max(self.passes, default=0):
            raise ValueError(f"pass@{max(self.passes)} has no unbiased estimate from {self.samples} samples; give as "
                             "many samples as the largest of passes, or smaller passes")
        return self


def generation_of(science: Any) -> GenerationScience:
    """Return what models write for a task; nothing, where it asks for nothing."""
    found = getattr(science, FIELD, None)
    return found if isinstance(found, GenerationScience) else GenerationScience()


def without_generation(science: S) -> S:
    """Return a task's science as its items depend on it: they are the same whatever models write."""
    if FIELD not in type(science).model_fields:
        return science
    return science.model_copy(update={FIELD: type(science).model_fields[FIELD].default})
