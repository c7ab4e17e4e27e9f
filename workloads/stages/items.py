"""Stage `items`: the items of a downstream task, their choices shuffled, and what of them training texts hold."""

from __future__ import annotations

from sweeps.language.plugins import Science, StageKind


class ItemsScience(Science):
    """No fields of its own: the task has them."""


PLUGIN = StageKind(science=ItemsScience, revision=1, implementation="workloads.downstream.make_items:run")
