"""The control `nca_unigram`: patch tokens drawn independently from one law; delimiters stay in place.

Shapes: B sequences, F frames, P patches of a frame, T tokens, L tokens of the pool.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from workloads.contract import SequenceBatch
from workloads.upstreams.nca.backend import fastest
from workloads.upstreams.nca.open_bank import open_bank
from workloads.upstreams.nca.philox import derive_key, multiply_high, split
from workloads.upstreams.nca.rollout import Backend
from workloads.upstreams.nca.science import NcaScience, bank_fields
from workloads.upstreams.nca.source import NcaSource
from workloads.upstreams.nca.tokens import delimit, patch_positions, target_mask
from workloads.upstreams.nca_unigram import NcaUnigramScience


class UnigramSource:
    """Random access to sequences of independent patch tokens; a `contract.SequenceSource`.

    Patch p of sequence i is the token at place floor(L word / 2^64) of the pool, `word` being the first word of the
    block (i, 0, p) of the key ("nca", "unigram", stream, seed).
    """

    def __init__(  # noqa: PLR0913 - those of NcaSource, with the pool in the place of its rules
        self, science: NcaScience, pool_L: npt.NDArray[np.int32], *, seed: int, stream: str, sequence_length: int,
        backend: Backend | None = None,
    ) -> None:
        """Draw from `pool_L`, each of its tokens as likely."""
        self.vocabulary = science.vocabulary
        self.sequence_length = sequence_length
        self.period: int | None = science.patches + 2
        self.pool_L = pool_L
        self._backend = backend or fastest()
        self._key = derive_key("nca", "unigram", stream, seed)
        self._shape_FP = math.ceil(sequence_length / self.period), science.patches
        self._targets = target_mask(science, science.delimiter_loss, sequence_length)

    def sequences(self, index_B: npt.NDArray[np.int64]) -> SequenceBatch:
        """Return the sequences with these indices, in this order."""
        number = split(np.asarray(index_B, dtype=np.int64))
        words = self._backend.words(self._key, number, math.prod(self._shape_FP))
        place = multiply_high(words, np.full_like(words, len(self.pool_L))).astype(np.int64)
        patches = self.pool_L[place].reshape(-1, *self._shape_FP)
        return SequenceBatch(
            tokens_BT=delimit(patches, self.vocabulary - 2)[:, : self.sequence_length],
            target_BT=np.tile(self._targets, (len(number), 1)),
        )


def make_unigram_source(
    science: NcaUnigramScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> UnigramSource:
    """Return the sequences of `stream`; a `contract.MakeSource` with the training bank of `nca` in every stream.

    Rolls out the first `law_sequences` training sequences of `nca`, once.

    Raises:
        UsageError: no bank is given.
        RecordError: a bank is damaged or belongs to other fields.
    """
    rules = open_bank(banks, bank_fields(science), "train")
    source = NcaSource(science, rules, seed=seed, stream="train", sequence_length=sequence_length)
    tokens_BT = source.sequences(np.arange(science.law_sequences)).tokens_BT
    pool = tokens_BT[:, patch_positions(science, sequence_length)].reshape(-1)
    return UnigramSource(science, pool, seed=seed, stream=stream, sequence_length=sequence_length)
