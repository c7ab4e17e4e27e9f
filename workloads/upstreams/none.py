"""Upstream `none`: no pre-pre-training. The baseline (scratch) of its domain and seed."""

from __future__ import annotations

from sweeps.language.plugins import Science, Upstream


class NoneScience(Science):
    """Scratch has no fields."""


PLUGIN = Upstream(science=NoneScience, revision=1, trains=False)
