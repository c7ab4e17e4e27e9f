"""The control `nca_shuffled`: each NCA sequence with its patch tokens permuted; delimiters stay in place.

Shapes: B sequences, T tokens, X positions of a sequence that hold patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from workloads.contract import SequenceBatch
from workloads.upstreams.nca.backend import fastest
from workloads.upstreams.nca.philox import derive_key, split
from workloads.upstreams.nca.science import NcaScience
from workloads.upstreams.nca.source import NcaSource, make_source
from workloads.upstreams.nca.tokens import patch_positions


class ShuffledSource:
    """The sequences of an `NcaSource`, permuted; a `contract.SequenceSource`. Targets stay by position."""

    def __init__(self, source: NcaSource, *, seed: int, stream: str) -> None:
        """Permute `source`; sequence i by the key ("nca", "shuffle", stream, seed) and the number i."""
        self.vocabulary = source.vocabulary
        self.sequence_length = source.sequence_length
        self.period = source.period
        self._source = source
        self._key = derive_key("nca", "shuffle", stream, seed)
        self._position_X = patch_positions(source.science, source.sequence_length)

    def sequences(self, index_B: npt.NDArray[np.int64]) -> SequenceBatch:
        """Return the sequences with these indices, in this order."""
        batch = self._source.sequences(index_B)
        words = fastest().words(self._key, split(np.asarray(index_B)), len(self._position_X))
        order = np.argsort(words, axis=1, kind="stable")
        tokens = batch.tokens_BT.copy()
        tokens[:, self._position_X] = np.take_along_axis(tokens[:, self._position_X], order, axis=1)
        return SequenceBatch(tokens_BT=tokens, target_BT=batch.target_BT)


def make_shuffled_source(
    science: NcaScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> ShuffledSource:
    """Return the shuffled sequences of `stream`; a `contract.MakeSource` with the banks of `nca`."""
    source = make_source(science, seed=seed, stream=stream, sequence_length=sequence_length, banks=banks)
    return ShuffledSource(source, seed=seed, stream=stream)
