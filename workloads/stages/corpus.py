"""Stage `corpus`: a domain's text as token shards. Light until it runs."""

from __future__ import annotations

from sweeps.language.plugins import StageKind
from sweeps.language.science import CorpusScience

PLUGIN = StageKind(science=CorpusScience, revision=1, implementation="workloads.data.make_corpus:run")
