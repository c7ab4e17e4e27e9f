"""Stage `pretrain`: a model's state after `segment.end_tokens` tokens of a domain's text."""

from __future__ import annotations

from sweeps.language.plugins import StageKind
from sweeps.language.science import PretrainScience

PLUGIN = StageKind(
    science=PretrainScience, revision=1, implementation="workloads.training.runs:pretrain", distributed=True,
)
