"""Stage `tokenizer`: one byte-level BPE over the training text of a fixed list of corpora. Light until it runs."""

from __future__ import annotations

from sweeps.language.plugins import StageKind
from sweeps.language.science import TokenizerScience

PLUGIN = StageKind(science=TokenizerScience, revision=1, implementation="workloads.data.make_tokenizer:run")
