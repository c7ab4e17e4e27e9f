"""Stage `evaluate`: the scores of tasks, measured on a finished model or on its untrained twin."""

from __future__ import annotations

from sweeps.language.plugins import StageKind
from sweeps.language.science import MeasureScience

PLUGIN = StageKind(science=MeasureScience, revision=1, implementation="workloads.training.evaluation:evaluate")
