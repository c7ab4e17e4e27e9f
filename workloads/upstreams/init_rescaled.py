"""Control `init_rescaled`: scratch whose matrices have the norms of an NCA body (protocol section 3). Fields only.

It asks whether the scale of the weights is all that pre-pre-training brings: each matrix of the freshly drawn body is
multiplied by |W'| / |W|, where W' is the matrix of the same name in the body of the `nca` run with the same fields and
|.| is the Frobenius norm. Vectors and embeddings stay as they were drawn. It trains nothing of its own: that run's
stages and gate are shared with the arm `nca` (its tokens are charged, for without them there are no norms).
"""

from __future__ import annotations

from workloads.upstreams import nca
from workloads.upstreams.nca.science import NcaScience


class InitRescaledScience(NcaScience):
    """The fields of `nca`. Its band is a plain field (default 60-75), not an axis: a control needs one band."""


def norms_of(science: InitRescaledScience) -> tuple[str, NcaScience]:
    """Return the run whose body gives the norms."""
    return "nca", NcaScience(**{name: getattr(science, name) for name in NcaScience.model_fields})


PLUGIN = nca.control(InitRescaledScience, nca.PLUGIN.implementation, **nca.NO_BANK, norms_of=norms_of,
                     frames_implementation="")
