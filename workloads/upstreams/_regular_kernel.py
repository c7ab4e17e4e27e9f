"""The numba kernel of `_regular.py`. Integers only.

It calls no compiled function of another file, because numba's cache on disk looks at one file's date only.
"""

from __future__ import annotations

from typing import Any

from workloads.upstreams.nca.kernels import compiled


@compiled
def fill_tokens(tokens_BT: Any, automata: Any, ends_BT: Any, pick_BT: Any, delimiter: int) -> None:
    """Fill the strings of every sequence; `automata` is (symbols, targets, cumulative weights), each BSE."""
    symbols_BSE, targets_BSE, cumulative_BSE = automata
    batch, length = tokens_BT.shape
    last = cumulative_BSE.shape[2] - 1
    for b in range(batch):
        state, empty = 0, True
        for t in range(length):
            if ends_BT[b, t] and not empty:
                tokens_BT[b, t] = delimiter
                state, empty = 0, True
                continue
            point = (pick_BT[b, t] * cumulative_BSE[b, state, last]) >> 32
            edge = 0
            while cumulative_BSE[b, state, edge] <= point:
                edge += 1
            tokens_BT[b, t] = symbols_BSE[b, state, edge]
            state, empty = targets_BSE[b, state, edge], False
