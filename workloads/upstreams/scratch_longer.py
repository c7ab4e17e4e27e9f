"""Control `scratch_longer`: scratch that reads as many tokens of the domain more as an upstream has (protocol, 5).

It trains on nothing before: its pre-training has T_b + T_ppt tokens on its own horizon, so it asks whether an upstream
brings more than the same tokens of the domain itself would have. It is compared at its own last end.
"""

from __future__ import annotations

from sweeps.language.plugins import Science, Upstream


class ScratchLongerScience(Science):
    """No fields: the axis token_budget is its own."""


PLUGIN = Upstream(science=ScratchLongerScience, revision=1, trains=False, lengthens=True, control=True)
