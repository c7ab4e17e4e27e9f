"""Stage `prepretrain`: a model's state after `segment.end_tokens` tokens of the upstream."""

from __future__ import annotations

from sweeps.language.plugins import StageKind
from sweeps.language.science import PrepretrainScience

PLUGIN = StageKind(
    science=PrepretrainScience, revision=1, implementation="workloads.training.runs:prepretrain", distributed=True,
)
