"""Stage `text`: a domain's documents, deduplicated and split by file. Light until it runs."""

from __future__ import annotations

from sweeps.language.plugins import StageKind
from sweeps.language.science import TextScience

PLUGIN = StageKind(science=TextScience, revision=1, implementation="workloads.data.make_text:run")
