"""Upstream `nca_static`: the rule that changes nothing. The control for dynamics; light, fields only.

Every frame equals the first one kept, which is the initial grid: drawn by the same law as in `nca`, cut into the same
patches, between the same delimiters. What is left to learn is to look one frame back. No first frame is a target, so
the entropy of all targets is zero.
"""

from __future__ import annotations

from workloads.upstreams import nca
from workloads.upstreams.nca.science import NcaScience


class NcaStaticScience(NcaScience):
    """The fields of `nca`, so that `nca.*` sets both. Those of rules (`network`, `temperature`, `burn_in`,
    `frame_stride`, `complexity`, `rules`) decide nothing here: there is no rule and no bank."""


PLUGIN = nca.control(NcaStaticScience, "workloads.upstreams.nca.static:make_static_source", **nca.NO_BANK,
                     describe=None)
