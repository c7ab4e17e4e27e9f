"""Reading a tokenised corpus by sequence number, memory-mapped. The same order for every arm of a seed.

A chunk is `sequence_length` consecutive tokens of one part; chunks do not overlap and may hold the ends of documents.
Training sequence i is chunk `order(i mod n)` of epoch `i div n`, where n is the number of chunks and each epoch has its
own permutation, drawn from (seed, epoch) alone; held-out sequence i is chunk i.

Shape suffixes: B sequences, T tokens of a sequence, V vocabulary, N chunks.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeps.errors import RecordError, UsageError
from sweeps.store import files
from workloads.contract import Ints

INDEX = "index.json"
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Shards:
    """The tokens of one part, as if they lay in one array."""

    def __init__(self, folder: Path, part: dict[str, Any], dtype: np.dtype[Any]) -> None:
        """Map every shard.

        Raises:
            RecordError: a shard is missing or does not have the size that the index states.
        """
        self.tokens = int(part["tokens"])
        self._maps: list[npt.NDArray[Any]] = []
        ends = []
        for shard in part["shards"]:
            path = folder / shard["file"]
            size = path.stat().st_size if path.is_file() else None
            if size != shard["size"] or size != shard["tokens"] * dtype.itemsize:
                raise RecordError(
                    f"{path} {'is missing' if size is None else f'has {size} bytes'}, the index says {shard['size']}; "
                    "remove the folder of that corpus stage to make it again"
                )
            self._maps.append(np.memmap(path, dtype=dtype, mode="r"))
            ends.append(shard["tokens"])
        self._end = np.cumsum(np.array(ends, dtype=np.int64))
        if self.tokens != (int(self._end[-1]) if ends else 0):
            raise RecordError(f"{folder / INDEX}: its shards do not add up to {self.tokens} tokens")

    def read(self, first: int, out_T: npt.NDArray[np.int32]) -> None:
        """Fill `out_T` with the tokens from number `first`."""
        done = 0
        shard = int(np.searchsorted(self._end, first, side="right"))
        while done < len(out_T):
            at = first + done - (int(self._end[shard - 1]) if shard else 0)
            piece = self._maps[shard][at:at + len(out_T) - done]
            out_T[done:done + len(piece)] = piece
            done, shard = done + len(piece), shard + 1


class Corpus:
    """A tokenised corpus; `workloads.contract.CorpusReader`."""

    def __init__(self, folder: Path, *, seed: int, sequence_length: int) -> None:
        """Use `open_corpus`."""
        index = _index(folder)
        dtype = np.dtype(index["dtype"])
        self.domain: str = index["domain"]
        self.vocabulary: int = index["vocabulary"]
        self.sequence_length = sequence_length
        self._folder = folder
        self._seed = seed
        self._bytes_V = np.array(index["token_bytes"], dtype=np.int64)
        self._train = Shards(folder, index["train"], dtype)
        self._validation = Shards(folder, index["validation"], dtype)
        self.train_sequences = self._train.tokens // sequence_length
        self.validation_sequences = self._validation.tokens // sequence_length

    def train(self, index_B: Ints) -> npt.NDArray[np.int32]:
        """Return (B, T) training tokens.

        Raises:
            UsageError: an index is negative.
        """
        if len(index_B) and int(index_B.min()) < 0:
            raise UsageError(f"sequence {int(index_B.min())} does not exist; they are numbered from 0")
        epoch_B, place_B = np.divmod(index_B, self.train_sequences)
        chunk_B = [
            epoch_order(self._seed, int(epoch), self.train_sequences)[place]
            for epoch, place in zip(epoch_B, place_B, strict=True)
        ]
        return self._rows(self._train, np.array(chunk_B, dtype=np.int64))

    def validation(self, index_B: Ints) -> npt.NDArray[np.int32]:
        """Return (B, T) held-out tokens, in the order of the text.

        Raises:
            UsageError: an index is outside the held-out text.
        """
        if len(index_B) and not 0 <= int(index_B.min()) <= int(index_B.max()) < self.validation_sequences:
            raise UsageError(
                f"{self._folder}: held-out sequences {int(index_B.min())} to {int(index_B.max())} of "
                f"{self.sequence_length} tokens were asked for, there are {self.validation_sequences}; lower "
                "evaluate.end_tokens, or raise documents.max_bytes or documents.validation_share"
            )
        return self._rows(self._validation, index_B)

    def bytes_of(self, tokens: npt.NDArray[np.int32]) -> int:
        """Return the bytes of UTF-8 text that these tokens stand for; an end of document stands for none."""
        return int(self._bytes_V[tokens].sum())

    def _rows(self, shards: Shards, chunk_B: Ints) -> npt.NDArray[np.int32]:
        tokens_BT = np.empty((len(chunk_B), self.sequence_length), dtype=np.int32)
        for row, chunk in enumerate(chunk_B):
            shards.read(int(chunk) * self.sequence_length, tokens_BT[row])
        return tokens_BT


def open_corpus(folder: Path, *, seed: int, sequence_length: int) -> Corpus:
    """Open the artifacts of a `corpus` stage; checks that every shard has its stated size.

    Args:
        folder: the stage's artifacts.
        seed: of the order of training sequences.
        sequence_length: T, tokens of a sequence.

    Raises:
        RecordError: a file is missing, truncated or contradicts the index.
        UsageError: the corpus is shorter than one sequence.
    """
    corpus = Corpus(folder, seed=seed, sequence_length=sequence_length)
    if not corpus.train_sequences or not corpus.validation_sequences:
        raise UsageError(
            f"{folder}: {corpus.train_sequences} training and {corpus.validation_sequences} held-out sequences of "
            f"{sequence_length} tokens; give more text, or lower model.sequence_length"
        )
    return corpus


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Return the permutation of `count` chunks of one epoch: ranks of 64-bit hashes (splitmix64) of their numbers.

    Written out, and not taken from a library's shuffle, so that it never changes with a version. No two hashes are
    equal, since each step can be undone: so any way of sorting gives this order. Keeps 4 bytes a chunk, 16 while it is
    made.
    """
    key = _mix_int(_mix_int(seed) ^ _mix_int((epoch + 1) * _GOLDEN))
    hash_N = np.arange(count, dtype=np.uint64)
    hash_N *= np.uint64(_GOLDEN)
    hash_N += np.uint64(key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        hash_N ^= hash_N >> np.uint64(shift)
        hash_N *= np.uint64(factor)
    wide_N = np.argsort(hash_N)
    del hash_N
    order_N: npt.NDArray[np.unsignedinteger[Any]] = wide_N.astype(np.uint32 if count < 1 << 32 else np.uint64)
    order_N.setflags(write=False)
    return order_N


def _mix_int(value: int) -> int:
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        index = files.read_json(path)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read ({error}); remove the folder of that corpus stage to make it again"
                          ) from error
    if index["schema_version"] > files.SCHEMA_VERSION:
        raise RecordError(f"{path} is of schema version {index['schema_version']}, this code reads up to "
                          f"{files.SCHEMA_VERSION}; update it")
    return index
