"""The control `nca_static`: each sequence is one frame, over and over.

Shapes: B sequences, F frames, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sweeps.errors import UsageError
from workloads.contract import SequenceBatch
from workloads.upstreams.nca.backend import fastest
from workloads.upstreams.nca.philox import derive_key, split
from workloads.upstreams.nca.rollout import Backend, Rules
from workloads.upstreams.nca.science import NcaScience, bank_fields
from workloads.upstreams.nca.tokens import delimit, patch_tokens, target_mask


class StaticSource:
    """Random access to sequences whose frames are all equal; a `contract.SequenceSource`.

    Sequence i shows the grid from which sequence i of `nca` starts, before its burn-in: the same key, the same bits.
    """

    def __init__(
        self, science: NcaScience, *, seed: int, stream: str, sequence_length: int, backend: Backend | None = None
    ) -> None:
        """Make a source of sequences of `sequence_length` tokens."""
        self.vocabulary = science.vocabulary
        self.sequence_length = sequence_length
        self.period: int | None = science.patches + 2
        self._backend = backend or fastest()
        self._key = derive_key("nca", "sequence", stream, seed)
        self._bank = bank_fields(science).model_copy(update={"burn_in": 0})
        self._targets = target_mask(science, science.delimiter_loss, sequence_length)

    def sequences(self, index_B: npt.NDArray[np.int64]) -> SequenceBatch:
        """Return the sequences with these indices, in this order."""
        index_B = np.asarray(index_B, dtype=np.int64)
        frame = self._backend.rollout(self._bank, self._no_rules(len(index_B)), self._key, split(index_B), 1)
        tokens = delimit(patch_tokens(frame, self._bank.states, self._bank.patch), self.vocabulary - 2)
        repeats = math.ceil(self.sequence_length / tokens.shape[1])
        return SequenceBatch(
            tokens_BT=np.tile(tokens, (1, repeats))[:, : self.sequence_length],
            target_BT=np.tile(self._targets, (len(index_B), 1)),
        )

    def _no_rules(self, count: int) -> Rules:
        """Return rules that are never asked: the first frame of a rollout without burn-in is its initial grid."""
        net, states = self._bank.network, self._bank.states
        return Rules(
            tables_BKNC=np.zeros((count, net.neighbourhood**2, states, net.relu_channels), np.int32),
            outputs_BCN=np.zeros((count, net.relu_channels, states), np.int32),
        )


def make_static_source(
    science: NcaScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> StaticSource:
    """Return the static sequences of `stream`; a `contract.MakeSource` that reads no bank.

    Raises:
        UsageError: a bank is given.
    """
    if banks:
        raise UsageError(f"the upstream nca_static reads no rule bank and {len(banks)} were given")
    return StaticSource(science, seed=seed, stream=stream, sequence_length=sequence_length)
