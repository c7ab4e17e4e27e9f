"""Makes k-shuffle Dyck sequences: by a numba kernel where numba is installed, else all of a batch at once in NumPy.

Token t of sequence i is drawn from the block (i, 0, t) of the key ("shuffle_dyck", stream, seed): the upper half of
its first word says open or close, the lower half which type. Opened types are uniform over all k, closed ones over the
types that are open. The paper cuts a longer word; here no bracket is opened that cannot be closed before the end (an
odd length leaves one open).

Shapes: B sequences, T tokens, K bracket types.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sweeps.errors import UsageError
from workloads.contract import SequenceBatch
from workloads.upstreams.nca.backend import fastest, has_numba
from workloads.upstreams.nca.philox import derive_key, split
from workloads.upstreams.shuffle_dyck import ShuffleDyckScience

Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]


class ShuffleDyckSource:
    """Random access to k-shuffle Dyck sequences; a `contract.SequenceSource`."""

    period: int | None = None

    def __init__(
        self, science: ShuffleDyckScience, *, seed: int, stream: str, sequence_length: int, compiled: bool = True
    ) -> None:
        """Make a source of sequences of `sequence_length` tokens; `compiled=False` keeps to NumPy, with equal bits."""
        self.science = science
        self.vocabulary = 2 * science.k
        self.sequence_length = sequence_length
        self._key = derive_key("shuffle_dyck", stream, seed)
        self._backend = fastest()
        self._compiled = compiled and has_numba()

    def sequences(self, index_B: Ints) -> SequenceBatch:
        """Return the sequences with these indices, in this order."""
        words = self._backend.words(self._key, split(np.asarray(index_B, dtype=np.int64)), self.sequence_length)
        opens_BT = (words >> np.uint64(32)).astype(np.int64) < int(self.science.p_open * 2**32)
        pick_BT = (words & np.uint64(2**32 - 1)).astype(np.int64)
        types, deepest = self.science.k, self.science.max_depth
        if self._compiled:
            from workloads.upstreams._shuffle_dyck_kernel import fill_tokens

            tokens = np.empty(words.shape, np.int32)
            fill_tokens(tokens, opens_BT, pick_BT, types, deepest)
        else:
            tokens = numpy_tokens(opens_BT, pick_BT, types, deepest)
        targets = np.ones(tokens.shape, np.bool_)
        targets[:, :1] = False
        return SequenceBatch(tokens_BT=tokens, target_BT=targets)


def numpy_tokens(opens_BT: npt.NDArray[np.bool_], pick_BT: Ints, types: int, max_depth: int) -> Int32s:
    """Return the tokens; the plain version of `_shuffle_dyck_kernel.fill_tokens`."""
    batch, length = opens_BT.shape
    counts_BK, rows = np.zeros((batch, types), np.int64), np.arange(batch)
    depth_B = np.zeros(batch, np.int64)
    tokens = np.empty((batch, length), np.int32)
    for t in range(length):
        full_B = (depth_B >= max_depth) | (depth_B >= length - t)
        chosen_B = (depth_B == 0) | (opens_BT[:, t] & ~full_B)
        ranks_BK = np.cumsum(counts_BK > 0, axis=1)
        rank_B = (pick_BT[:, t] * ranks_BK[:, -1]) >> 32
        closing_B = np.argmax(ranks_BK > rank_B[:, None], axis=1)
        kind_B = np.where(chosen_B, (pick_BT[:, t] * types) >> 32, closing_B)
        change_B = np.where(chosen_B, 1, -1)
        counts_BK[rows, kind_B] += change_B
        depth_B += change_B
        tokens[:, t] = np.where(chosen_B, kind_B, kind_B + types)
    return tokens


def make_source(
    science: ShuffleDyckScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> ShuffleDyckSource:
    """Return the sequences of `stream`; a `contract.MakeSource` that reads no bank.

    Raises:
        UsageError: a bank is given.
    """
    if banks:
        raise UsageError(f"the upstream shuffle_dyck reads no rule bank and {len(banks)} were given")
    return ShuffleDyckSource(science, seed=seed, stream=stream, sequence_length=sequence_length)
