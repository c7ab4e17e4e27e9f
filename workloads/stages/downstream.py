"""Stage `downstream`: one task's items, scored on a finished model or on its untrained twin."""

from __future__ import annotations

from sweeps.language.plugins import StageKind
from sweeps.language.science import ScoringScience

PLUGIN = StageKind(science=ScoringScience, revision=2, implementation="workloads.downstream.run:run")
