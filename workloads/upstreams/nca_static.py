"""Upstream `nca_static`: the rule that changes nothing. The control for dynamics; light, fields only.

Every frame equals the first one kept, which is the initial grid: drawn by the same law as in `nca`, cut into the same
patches, between the same delimiters. What is left to learn is to look one frame back. No first frame is a target, so
the entropy of all targets is zero.
"""

from __future__ import annotations

from sweeps.language.plugins import Upstream
from workloads.upstreams import nca
from workloads.upstreams.nca.science import NcaScience


class NcaStaticScience(NcaScience):
    """The fields of `nca`, so that `nca.*` sets both. Those of rules (`network`, `temperature`, `burn_in`,
    `frame_stride`, `complexity`, `rules`) decide nothing here: there is no rule and no bank."""


PLUGIN = Upstream(
    science=NcaStaticScience,
    revision=1,
    implementation="workloads.upstreams.nca.static:make_static_source",
    control=True,
    inherits="nca",
    protocols=nca.PROTOCOLS,
    scales=nca.SCALES,
    vocabulary=nca.vocabulary,
    frame_tokens=nca.frame_tokens,
    frames_implementation=nca.FRAMES_IMPLEMENTATION,
)
