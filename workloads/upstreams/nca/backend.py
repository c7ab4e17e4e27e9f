"""Which path computes: C where it was built, else numba, else NumPy. All give the same bits, so no result names it."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from typing import cast

from workloads.upstreams.nca import native, reference
from workloads.upstreams.nca.rollout import Backend


@cache
def fastest() -> Backend:
    """Return the fastest path that is there. Importing numba takes 0.6 s."""
    if native.usable():
        return cast(Backend, native)
    if has_numba():
        from workloads.upstreams.nca import kernels

        return cast(Backend, kernels)
    return cast(Backend, reference)


def has_numba() -> bool:
    """Return whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


def threads() -> int:
    """Return how many threads this process may use: OMP_NUM_THREADS, which a job gets from its cores; else one."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return max(1, int(first)) if first.isdecimal() else 1
