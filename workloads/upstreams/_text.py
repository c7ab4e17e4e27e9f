"""Sequences of a domain's corpus as an upstream. Shapes: B sequences, T tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweeps.errors import UsageError
from workloads.contract import CorpusReader, Ints, SequenceBatch
from workloads.training.feeds import text_batch
from workloads.upstreams.nca.philox import derive_key
from workloads.upstreams.text import TextUpstreamScience


class TextSource:
    """Random access to a corpus; a `contract.SequenceSource`.

    Training sequence i is chunk i of the corpus's epochs; each epoch is a permutation, and these are drawn under the
    key ("text", seed), so that pre-training does not begin with the very sequences that the body has just seen.
    Held-out sequence i is chunk i of the held-out text, which begins again at its end: a gate never fails for a short
    one.
    """

    period: int | None = None

    def __init__(self, reader: CorpusReader, stream: str) -> None:
        """Read the part of `reader` that belongs to `stream`."""
        self.vocabulary = reader.vocabulary
        self.sequence_length = reader.sequence_length
        self.train_sequences = reader.train_sequences
        self._reader = reader
        self._held_out = stream == "held_out"

    def sequences(self, index_B: Ints) -> SequenceBatch:
        """Return the sequences with these indices, in this order."""
        if self._held_out:
            return text_batch(self._reader.validation(index_B % self._reader.validation_sequences))
        return text_batch(self._reader.train(index_B))


def make_source(
    science: TextUpstreamScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> TextSource:
    """Return the sequences of `stream`; a `contract.MakeSource` whose only bank is a corpus.

    Raises:
        UsageError: there is not one corpus.
        RecordError: it is damaged.
    """
    from workloads.data.corpus import open_corpus

    if len(banks) != 1:
        raise UsageError(f"the upstream text reads one corpus and {len(banks)} were given")
    low, high = map(int, derive_key("text", seed))
    reader = open_corpus(banks[0], seed=low | high << 32, sequence_length=sequence_length)
    return TextSource(reader, stream)
