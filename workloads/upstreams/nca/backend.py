"""Which path computes: C where it was built, else numba, else NumPy. All give the same bits, so no result names it."""

from __future__ import annotations

import importlib.util
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
