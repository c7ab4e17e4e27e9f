"""Upstream `nca_shuffled`: NCA sequences whose patch tokens are permuted. The control for order; light, fields only.

It keeps every sequence's tokens, length and delimiters, and shares the rule banks of `nca`.
"""

from __future__ import annotations

from workloads.upstreams import nca
from workloads.upstreams.nca.science import NcaScience


class NcaShuffledScience(NcaScience):
    """The fields of `nca`. Its band is a plain field (default 60-75), not an axis: a control needs one band."""


PLUGIN = nca.control(NcaShuffledScience, "workloads.upstreams.nca.shuffled:make_shuffled_source")
