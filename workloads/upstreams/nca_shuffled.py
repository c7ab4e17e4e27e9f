"""Upstream `nca_shuffled`: NCA sequences whose patch tokens are permuted. The control for order; light, fields only.

It keeps every sequence's tokens, length and delimiters, and shares the rule banks of `nca`. Each order of a sequence's
patches, of all its frames together, is as likely as another. Loss floor: who knows which patches a sequence has (T in
all, c_v of them token v) still pays log(T! / prod c_v!) nats for it; what the patches themselves cost is not known.
"""

from __future__ import annotations

from workloads.upstreams import nca
from workloads.upstreams.nca.science import NcaScience


class NcaShuffledScience(NcaScience):
    """The fields of `nca`. Its band is a plain field (default 60-75), not an axis: a control needs one band."""


PLUGIN = nca.control(NcaShuffledScience, "workloads.upstreams.nca.shuffled:make_shuffled_source")
