"""Stage `finetune`: a finished model's state after `segment.end_tokens` tokens of a task's training items."""

from __future__ import annotations

from sweeps.language.plugins import StageKind
from sweeps.language.science import FinetuneScience

PLUGIN = StageKind(
    science=FinetuneScience, revision=1, implementation="workloads.downstream.finetune:run", distributed=True,
)
