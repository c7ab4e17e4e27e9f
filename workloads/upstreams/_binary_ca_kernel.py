"""The numba kernels of `_binary_ca_source.py`. Integers only; a grid is computed row by row, its edges wrap.

They call no compiled function of another file, because numba's cache on disk looks at one file's date only.
`plan` is (burn_in, frame_stride). Shapes: B sequences, F kept frames, H x W grid, S cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workloads.upstreams.nca.kernels import compiled


@compiled
def life_step(new: Any, old: Any, column_W: Any, rule: Any) -> None:
    """Write the grid after `old` into `new`; `column_W` is room for the sums of three cells above each other."""
    height, width = old.shape
    for y in range(height):
        above = y - 1 if y > 0 else height - 1
        below = y + 1 if y < height - 1 else 0
        for x in range(width):
            column_W[x] = np.int64(old[above, x]) + np.int64(old[y, x]) + np.int64(old[below, x])
        for x in range(width):
            left = column_W[x - 1] if x > 0 else column_W[width - 1]
            right = column_W[x + 1] if x < width - 1 else column_W[0]
            cell = np.int64(old[y, x])
            # 9 cell + neighbours: the neighbours are the three columns without the cell
            new[y, x] = (rule >> (8 * cell + left + column_W[x] + right)) & 1


@compiled
def fill_life(kept_BFS: Any, grids_BHW: Any, rule_B: Any, plan: Any) -> None:
    """Run every grid under its rule and keep its frames."""
    burn_in, stride = plan
    frames = kept_BFS.shape[1]
    old, new = np.empty_like(grids_BHW[0]), np.empty_like(grids_BHW[0])
    column_W = np.empty(old.shape[1], np.int64)
    for b in range(kept_BFS.shape[0]):
        old[:] = grids_BHW[b]
        for step in range(burn_in + (frames - 1) * stride + 1):
            if step > 0:
                life_step(new, old, column_W, rule_B[b])
                old, new = new, old
            if step >= burn_in and (step - burn_in) % stride == 0:
                kept_BFS[b, (step - burn_in) // stride] = old.ravel()


@compiled
def eca_step(new: Any, old: Any, rule: Any) -> None:
    """Write the row after `old` into `new`."""
    width = old.size
    pattern = np.int64(old[width - 1]) * 2 + np.int64(old[0])
    for x in range(width):
        right = np.int64(old[x + 1] if x < width - 1 else old[0])
        pattern = ((pattern << 1) | right) & 7
        new[x] = (rule >> pattern) & 1


@compiled
def fill_eca(kept_BFS: Any, grids_BHW: Any, rule_B: Any, plan: Any) -> None:
    """Run every row under its rule and keep its frames."""
    burn_in, stride = plan
    frames = kept_BFS.shape[1]
    old, new = np.empty(kept_BFS.shape[2], np.uint8), np.empty(kept_BFS.shape[2], np.uint8)
    for b in range(kept_BFS.shape[0]):
        old[:] = grids_BHW[b, 0]
        for step in range(burn_in + (frames - 1) * stride + 1):
            if step > 0:
                eca_step(new, old, rule_B[b])
                old, new = new, old
            if step >= burn_in and (step - burn_in) % stride == 0:
                kept_BFS[b, (step - burn_in) // stride] = old
