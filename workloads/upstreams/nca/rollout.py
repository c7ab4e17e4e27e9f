"""What a rollout is, in numbers: shared by the NumPy (`reference.py`), numba (`kernels.py`) and C paths (`native.py`).

The definition of the data (revision 1; only ever made faster):

- Rule (k, j), candidate j for accepted rule k: its kernels are normals cut at 2 sd, from blocks (k, j, 0, attempt) of
  the key ("nca", "rules", stream, seed). The two linear maps become one table (window offset, state) -> hidden vector.
- Table and output weights are rounded to multiples of 2^-20 and kept as integers. Logits are integers too, in units of
  2^-40; every partial sum is below 2^53, so float64 holds it exactly and the order of summation cannot matter.
- A rollout has a number (a, b) and a key. Initial logits: blocks (a, b, 2^32 - 1, attempt); initial cells: block
  (a, b, 0, cell); step t (1, 2, ...): block (a, b, t, cell). A draw multiplies the block's first 64-bit word with the
  sum of the integer weights floor(2^48 exp(-(max - logit) / temperature)) and takes the state that the upper 64 bits
  fall on.
- How far that draw is from the softmax: with x = (max - logit) / temperature and S = sum exp(-x) >= 1, a weight is off
  2^48 exp(-x) by less than 2 (two floors, or a state beyond x = 34) and a relative 2^-46 (roundings of x and of the
  exponential: 34 2^-52 + 16 2^-53 < 2^-46). Together that is at most 2n + 2^-46 2^48 S, and half the difference of the
  shares at most as much over 2^48 S; picking by a 64-bit word adds 2^-64 a state. Total variation <= 2n 2^-48 + 2^-46 +
  n 2^-64, which is 2e-12 for the largest alphabet (n = 256): below 1e-9 by far.

Shapes: B rollouts, F kept frames, K window cells, N states, C ReLU channels, H x W grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from workloads.upstreams.nca.philox import Words
from workloads.upstreams.nca.science import FIXED_POINT_BITS, NcaBankScience

Int32s = npt.NDArray[np.int32]
UNIT = 2.0**FIXED_POINT_BITS
LOGIT_UNIT = 2.0 ** (-2 * FIXED_POINT_BITS)
LOGITS_STEP = 2**32 - 1
"""Counter word, in the place of a step number, of the initial grid's logits."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Random networks in fixed point (units of 2^-20)."""

    tables_BKNC: Int32s
    """Contribution of a window cell in a state to the hidden layer."""
    outputs_BCN: Int32s
    """Hidden layer to logits."""

    def take(self, index_B: npt.NDArray[np.int64]) -> Rules:
        """Return the rules with these indices."""
        return Rules(
            tables_BKNC=np.asarray(self.tables_BKNC[index_B]), outputs_BCN=np.asarray(self.outputs_BCN[index_B])
        )


class Backend(Protocol):
    """The computations that have several versions with the same bits."""

    def draw_rules(self, bank: NcaBankScience, key: Words, number_B2: Words) -> Rules:
        """Return the candidates numbered (k, j)."""
        ...

    def rollout(
        self, bank: NcaBankScience, rules: Rules, key: Words, number_B2: Words, frames: int
    ) -> npt.NDArray[np.uint8]:
        """Return the first `frames` kept frames (B, F, H, W); rollout b runs rule b under the number (a, b)."""
        ...

    def words(self, key: Words, number_B2: Words, count: int) -> Words:
        """Return (B, count) 64-bit words: the first ones of blocks (a, b, 0, position)."""
        ...

    def patch_tokens(self, frames_BFHW: npt.NDArray[np.uint8], states: int, patch: int) -> Int32s:
        """Return the tokens (B, F, P) of frames; see `tokens.patch_tokens`."""
        ...


def neighbours(bank: NcaBankScience) -> Int32s:
    """Return (cells, K): the flat index of each cell's window, row-major, on the torus."""
    height, width, radius = bank.grid.height, bank.grid.width, bank.network.neighbourhood // 2
    offsets = np.arange(-radius, radius + 1)
    rows_HK = (np.arange(height)[:, None] + offsets) % height
    columns_WK = (np.arange(width)[:, None] + offsets) % width
    index = rows_HK[:, None, :, None] * width + columns_WK[None, :, None, :]
    return index.reshape(height * width, -1).astype(np.int32)
