"""Held-out losses. Nothing here draws a random number.

Every rank measures everything: evaluations are short, and ZeRO 3 needs the ranks in step.

Shape suffixes: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sweeps.errors import RecordError
from workloads.contract import CorpusReader, Ints, SequenceBatch
from workloads.training.feeds import labels_of, text_batch
from workloads.training.model import cross_entropy_sum

BATCH = 16
"""Sequences per forward pass of an evaluation; one fixed shape, because rows are not bit-equal across shapes."""

Logits = Callable[[npt.NDArray[np.int32]], torch.Tensor]
"""(B, T) tokens -> (B, T, V) logits."""
Summed = Callable[[SequenceBatch], tuple[float, int]]
"""Sequences -> their summed cross-entropy in nats, and their number of targets."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A loss on held-out text."""

    loss: float
    """Nats per token."""
    bits_per_byte: float
    """Bits per byte of UTF-8: comparable across tokenizers and domains."""


def batches(count: int) -> Iterator[Ints]:
    """Yield the indices 0 .. count - 1 in batches."""
    for first in range(0, count, BATCH):
        yield np.arange(first, min(count, first + BATCH), dtype=np.int64)


def sequences_for(tokens: int, reader: CorpusReader) -> int:
    """Return how many held-out sequences `tokens` tokens are, at least one.

    Raises:
        RecordError: the corpus has no held-out sequences.
    """
    if reader.validation_sequences < 1:
        raise RecordError(f"the corpus of {reader.domain} has no held-out sequences")
    return min(reader.validation_sequences, max(1, tokens // reader.sequence_length))


def summed_loss(logits: Logits, batch: SequenceBatch) -> tuple[float, int]:
    """Return the summed cross-entropy in nats of a batch, and its number of targets."""
    labels = labels_of(batch)
    out = logits(batch.tokens_BT)
    total = cross_entropy_sum(out.flatten(0, 1), torch.from_numpy(labels).to(out.device).flatten())
    return float(total), int((labels >= 0).sum())


def held_out(summed: Summed, reader: CorpusReader, tokens: int) -> HeldOut:
    """Return the loss on the first held-out sequences of a corpus.

    Args:
        summed: the model.
        reader: the corpus.
        tokens: held-out tokens to use, rounded down to whole sequences.
    """
    nats, targets, size = 0.0, 0, 0
    for index in batches(sequences_for(tokens, reader)):
        tokens_BT = reader.validation(index)
        loss, count = summed(text_batch(tokens_BT))
        nats, targets = nats + loss, targets + count
        size += reader.bytes_of(tokens_BT[:, 1:])
    return HeldOut(loss=nats / targets, bits_per_byte=nats / math.log(2.0) / size)
