"""The numba kernels of `_brackets.py`: the same bits, at any batch size. Integers only.

They call no compiled function of another file, because numba's cache on disk looks at one file's date only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workloads.upstreams.nca.kernels import compiled


@compiled
def open_type(counts_K: Any, pick: Any) -> Any:
    """Return one of the types with open brackets, by 32 random bits."""
    kinds = 0
    for kind in range(counts_K.size):
        kinds += counts_K[kind] > 0
    rank = (pick * kinds) >> 32
    for kind in range(counts_K.size):
        if counts_K[kind] > 0:
            if rank == 0:
                return kind
            rank -= 1
    return 0


@compiled
def fill_shuffled(tokens_BT: Any, opens_BT: Any, pick_BT: Any, types: int, max_depth: int) -> None:
    """Fill the tokens of every sequence of `shuffle_dyck`."""
    batch, length = tokens_BT.shape
    counts_K = np.zeros(types, np.int64)
    for b in range(batch):
        counts_K[:] = 0
        depth = 0
        for t in range(length):
            full = depth >= max_depth or depth >= length - t
            if depth == 0 or (opens_BT[b, t] and not full):
                kind = (pick_BT[b, t] * types) >> 32
                counts_K[kind] += 1
                depth += 1
                tokens_BT[b, t] = kind
            else:
                kind = open_type(counts_K, pick_BT[b, t])
                counts_K[kind] -= 1
                depth -= 1
                tokens_BT[b, t] = kind + types


@compiled
def fill_nested(tokens_BT: Any, opens_BT: Any, pick_BT: Any, types: int, max_depth: int) -> None:
    """Fill the tokens of every sequence of `dyck`."""
    batch, length = tokens_BT.shape
    stack_D = np.zeros(min(max_depth, (length + 1) // 2), np.int64)
    for b in range(batch):
        depth = 0
        for t in range(length):
            full = depth >= max_depth or depth >= length - t
            if depth == 0 or (opens_BT[b, t] and not full):
                stack_D[depth] = (pick_BT[b, t] * types) >> 32
                tokens_BT[b, t] = stack_D[depth]
                depth += 1
            else:
                depth -= 1
                tokens_BT[b, t] = stack_D[depth] + types
