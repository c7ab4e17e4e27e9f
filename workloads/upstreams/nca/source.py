"""Training sequences: rule i (or i modulo `rules.unique`), rolled out, tokenised and cut.

Shapes: B sequences, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from workloads.contract import SequenceBatch
from workloads.ranks import threads
from workloads.upstreams.nca.backend import fastest
from workloads.upstreams.nca.open_bank import RuleBank, open_bank
from workloads.upstreams.nca.philox import derive_key, split
from workloads.upstreams.nca.rollout import Backend, Rules
from workloads.upstreams.nca.science import NcaScience, bank_fields
from workloads.upstreams.nca.tokens import delimit, target_mask

CHUNK = 32
"""Sequences that one thread makes at a time, at most; changes no bit."""


class NcaSource:
    """Random access to NCA sequences; a `contract.SequenceSource`.

    Sequence i starts from the key ("nca", "sequence", stream, seed) and the number i, so neither the batch it comes
    in nor the number of threads changes it.
    """

    def __init__(
        self, science: NcaScience, rules: RuleBank, *, seed: int, stream: str, sequence_length: int,
        backend: Backend | None = None,
    ) -> None:
        """Make a source of sequences of `sequence_length` tokens; `threads` may be changed afterwards."""
        self.science, self.bank, self.rules = science, bank_fields(science), rules
        self.vocabulary = science.vocabulary
        self.sequence_length = sequence_length
        self.period: int | None = science.patches + 2
        self.threads = threads()
        self._backend = backend or fastest()
        self._key = derive_key("nca", "sequence", stream, seed)
        self._frames = math.ceil(sequence_length / self.period)
        self._targets = target_mask(science, science.delimiter_loss, sequence_length)

    def sequences(self, index_B: npt.NDArray[np.int64]) -> SequenceBatch:
        """Return the sequences with these indices, in this order.

        Raises:
            UsageError: the bank is too short.
        """
        index_B = np.asarray(index_B, dtype=np.int64)
        tokens = np.empty((len(index_B), self.sequence_length), np.int32)
        chunk = max(1, min(CHUNK, math.ceil(len(index_B) / self.threads)))
        spans = [slice(start, start + chunk) for start in range(0, len(index_B), chunk)]

        def fill(span: slice) -> None:
            tokens[span] = self._tokens(index_B[span])

        if self.threads == 1 or len(spans) == 1:
            for span in spans:
                fill(span)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(fill, spans))
        return SequenceBatch(tokens_BT=tokens, target_BT=np.tile(self._targets, (len(index_B), 1)))

    def oracle(self, index_B: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        """Return the expected loss (B, T) of who knows each sequence's rule; a `contract.Oracle`."""
        from workloads.upstreams.nca.oracle import expected_nats

        rules, frames = self._rolled(np.asarray(index_B, dtype=np.int64))
        return expected_nats(self.bank, rules, frames, self.sequence_length)

    def _rolled(self, index_B: npt.NDArray[np.int64]) -> tuple[Rules, npt.NDArray[np.uint8]]:
        unique = self.science.rules.unique
        rules = self.rules.take(index_B % unique if unique else index_B)
        return rules, self._backend.rollout(self.bank, rules, self._key, split(index_B), self._frames)

    def _tokens(self, index_B: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        _, frames = self._rolled(index_B)
        patches = self._backend.patch_tokens(frames, self.science.states, self.science.patch)
        return delimit(patches, self.vocabulary - 2)[:, : self.sequence_length]


def make_source(
    science: NcaScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> NcaSource:
    """Return the sequences of `stream`; a `contract.MakeSource`.

    Raises:
        UsageError: no bank is given.
        RecordError: a bank is damaged or belongs to other fields.
    """
    rules = open_bank(banks, bank_fields(science), stream)
    return NcaSource(science, rules, seed=seed, stream=stream, sequence_length=sequence_length)
