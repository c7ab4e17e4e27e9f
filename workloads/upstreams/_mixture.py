"""Makes the sequences of a mixture. Shapes: B sequences, T tokens, C parts of a law."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from sweeps.errors import RecordError
from sweeps.language.mixture import Law, MixtureScience, token_ids
from workloads.contract import Ints, MixturePart, SequenceBatch, SequenceSource
from workloads.upstreams.nca.philox import derive_key, philox, split


class MixtureSource:
    """Random access to a mixture; a `contract.SequenceSource`.

    Sequence i belongs to the part that the first 64-bit word of the block (i, 0, 0) of the key ("mixture", stream,
    seed) picks by the law of its phase, and is sequence i of that part with its ids moved to the part's own.
    """

    def __init__(self, science: MixtureScience, parts: Mapping[str, MixturePart], *, seed: int, stream: str,
                 sequence_length: int) -> None:
        """Mix `parts`; those without a source are of no sequence that will be asked for."""
        self.science, self.parts = science, parts
        self.names = sorted(parts)
        self.first_id, self.vocabulary = token_ids({k: (p.family, p.vocabulary) for k, p in parts.items()})
        self.sequence_length = sequence_length
        periods = {p.source.period for p in parts.values() if p.source is not None}
        self.period: int | None = next(iter(periods)) if len(periods) == 1 else None
        self._key = derive_key("mixture", stream, seed)
        phases = science.phases(sequence_length)
        self._begins = np.array([first for first, _ in phases], np.int64)
        self._laws = [_Law(law, self.names) for _, law in phases]

    def part_of(self, index_B: Ints) -> Ints:
        """Return the number of each sequence's part, in the order of `names`."""
        low_B, high_B = split(index_B).T
        words_B, _ = philox(self._key, (low_B, high_B, np.zeros_like(low_B), np.zeros_like(low_B)))
        phase_B = np.searchsorted(self._begins, index_B, side="right") - 1
        part_B = np.empty(len(index_B), np.int64)
        for phase in np.unique(phase_B):
            mine = phase_B == phase
            part_B[mine] = self._laws[phase].pick(words_B[mine])
        return part_B

    def sequences(self, index_B: Ints) -> SequenceBatch:
        """Return the sequences with these indices, in this order.

        Raises:
            RecordError: one is of a part whose rules are no input of the stage.
        """
        index_B = np.asarray(index_B, dtype=np.int64)
        tokens_BT = np.empty((len(index_B), self.sequence_length), np.int32)
        target_BT = np.empty(tokens_BT.shape, np.bool_)
        for name, source, mine in self._shares(index_B):
            batch = source.sequences(index_B[mine])
            tokens_BT[mine] = batch.tokens_BT + np.int32(self.first_id[name])
            target_BT[mine] = batch.target_BT
        return SequenceBatch(tokens_BT=tokens_BT, target_BT=target_BT)

    def oracle(self, index_B: Ints) -> npt.NDArray[np.float64] | None:
        """Return (B, T): the expected loss of each token in nats for who knows its sequence's part and the rule there.

        None where a part has no exact one.
        """
        index_B = np.asarray(index_B, dtype=np.int64)
        loss_BT = np.empty((len(index_B), self.sequence_length))
        for _, source, mine in self._shares(index_B):
            known = getattr(source, "oracle", None)
            found = None if known is None else known(index_B[mine])
            if found is None:
                return None
            loss_BT[mine] = found
        return loss_BT

    def _shares(self, index_B: Ints) -> Iterator[tuple[str, SequenceSource, Ints]]:
        """Yield each part that has some of these sequences: name, source, and which ones of them are its."""
        part_B = self.part_of(index_B)
        for number in np.unique(part_B):
            name, mine = self.names[number], np.flatnonzero(part_B == number)
            source = self.parts[name].source
            if source is None:
                raise RecordError(f"sequence {int(index_B[mine[0]])} is of the part {name}, of which this stage has no "
                                  "rules; plan again")
            yield name, source, mine


class _Law:
    """The weights of one phase as limits of 64-bit words: part c for words from its limit up to the next part's."""

    def __init__(self, law: Law, names: list[str]) -> None:
        whole = sum(law.values())
        limits = accumulate(law.values(), initial=0)
        self._limit_C = np.array([(limit << 64) // whole for limit in limits][:-1], np.uint64)
        self._part_C = np.array([names.index(part) for part in law], np.int64)

    def pick(self, words_B: npt.NDArray[np.uint64]) -> Ints:
        """Return the number of the part that each word picks."""
        return np.asarray(self._part_C[np.searchsorted(self._limit_C, words_B, side="right") - 1])


def make_mixture(
    science: MixtureScience, *, seed: int, stream: str, sequence_length: int, parts: Mapping[str, MixturePart]
) -> MixtureSource:
    """Return the sequences of `stream`; a `contract.MakeMixture`."""
    return MixtureSource(science, parts, seed=seed, stream=stream, sequence_length=sequence_length)
