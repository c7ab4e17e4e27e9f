"""Makes Dyck sequences, nested and shuffled: by a numba kernel where numba is installed, else in NumPy; equal bits.

Token t of sequence i is drawn from the block (i, 0, t) of the key (language, stream, seed): the upper half of its first
word says open or close, the lower half which type. Opened types are uniform over all k. A closing bracket closes the
one opened last (`dyck`), or one of the types that are open, each as likely (`shuffle_dyck`).

What is forced: at depth 0 to open, at `max_depth` to close, and to close as soon as there is only room left for that.
So every sequence of even length is balanced and each type that occurs occurs with both of its symbols, equally often;
an odd length leaves one bracket open. (The published generators cut longer words instead.)

Shapes: B sequences, T tokens, K bracket types, D places of a stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sweeps.errors import UsageError
from workloads.contract import SequenceBatch
from workloads.upstreams.nca.backend import fastest, has_numba
from workloads.upstreams.nca.philox import derive_key, split

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]


class BracketScience(Protocol):
    """What the fields of both languages hold."""

    @property
    def k(self) -> int:
        """Bracket types."""
        ...

    @property
    def p_open(self) -> float:
        """Probability of opening where both are allowed."""
        ...

    @property
    def max_depth(self) -> int:
        """Open brackets at most."""
        ...


class BracketSource:
    """Random access to the sequences of a bracket language; a `contract.SequenceSource`."""

    period: int | None = None

    def __init__(  # noqa: PLR0913 - a stream of a language is described by all of these
        self, language: str, science: BracketScience, *, seed: int, stream: str, sequence_length: int,
        compiled: bool = True,
    ) -> None:
        """Make sequences of `sequence_length` tokens of a `LANGUAGES`; `compiled=False` keeps to NumPy."""
        self.science = science
        self.vocabulary = 2 * science.k
        self.sequence_length = sequence_length
        self._language = language
        self._key = derive_key(language, stream, seed)
        self._backend = fastest()
        self._compiled = compiled and has_numba()

    def sequences(self, index_B: Ints) -> SequenceBatch:
        """Return the sequences with these indices, in this order; every token but the first is a target."""
        words = self._backend.words(self._key, split(np.asarray(index_B, dtype=np.int64)), self.sequence_length)
        opens_BT = (words >> np.uint64(32)).astype(np.int64) < int(self.science.p_open * 2**32)
        pick_BT = (words & np.uint64(2**32 - 1)).astype(np.int64)
        tokens = np.empty(words.shape, np.int32)
        self._fill()(tokens, opens_BT, pick_BT, self.science.k, self.science.max_depth)
        targets = np.ones(tokens.shape, np.bool_)
        targets[:, :1] = False
        return SequenceBatch(tokens_BT=tokens, target_BT=targets)

    def oracle(self, index_B: Ints) -> Floats:
        """Return (B, T): nats that each token costs in expectation who knows the language and the tokens before.

        One coin where opening and closing are both allowed; log k to open; to close, nothing in `dyck` and log of the
        number of open types in `shuffle_dyck`.
        """
        tokens_BT = self.sequences(index_B).tokens_BT
        (batch, length), types = tokens_BT.shape, self.science.k
        p = int(self.science.p_open * 2**32) / 2**32  # as drawn
        coin = -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)
        rows, depth_B = np.arange(batch), np.zeros(batch, np.int64)
        counts_BK = np.zeros((batch, types), np.int64)
        nats_BT = np.empty(tokens_BT.shape)
        for t, token_B in enumerate(tokens_BT.T):
            full_B = (depth_B >= self.science.max_depth) | (depth_B >= length - t)
            opens_B = np.where(depth_B == 0, 1.0, np.where(full_B, 0.0, p))
            closing_B = np.log(np.maximum((counts_BK > 0).sum(axis=1), 1)) if self._language == "shuffle_dyck" else 0.0
            free_B = (depth_B > 0) & ~full_B
            nats_BT[:, t] = coin * free_B + opens_B * math.log(types) + (1 - opens_B) * closing_B
            change_B = np.where(token_B < types, 1, -1)
            counts_BK[rows, token_B % types] += change_B
            depth_B += change_B
        return nats_BT

    def _fill(self) -> Callable[[Int32s, Bools, Ints, int, int], None]:
        if not self._compiled:
            return LANGUAGES[self._language]
        from workloads.upstreams import _brackets_kernel

        return {"dyck": _brackets_kernel.fill_nested, "shuffle_dyck": _brackets_kernel.fill_shuffled}[self._language]


def opened(opens_B: Bools, depth_B: Ints, left: int, max_depth: int) -> Bools:
    """Return which sequences (B,) open a bracket at a position with `left` tokens to come, itself included."""
    full_B = (depth_B >= max_depth) | (depth_B >= left)
    chosen_B: Bools = (depth_B == 0) | (opens_B & ~full_B)
    return chosen_B


def fill_nested(tokens_BT: Int32s, opens_BT: Bools, pick_BT: Ints, types: int, max_depth: int) -> None:
    """Fill the tokens of `dyck`; the plain version of `_brackets_kernel.fill_nested`."""
    batch, length = tokens_BT.shape
    rows, depth_B = np.arange(batch), np.zeros(batch, np.int64)
    stack_BD = np.zeros((batch, min(max_depth, (length + 1) // 2)), np.int64)
    for t in range(length):
        chosen_B = opened(opens_BT[:, t], depth_B, length - t, max_depth)
        place_B = np.where(chosen_B, depth_B, depth_B - 1)
        kind_B = np.where(chosen_B, (pick_BT[:, t] * types) >> 32, stack_BD[rows, place_B])
        stack_BD[rows, place_B] = kind_B
        depth_B += np.where(chosen_B, 1, -1)
        tokens_BT[:, t] = np.where(chosen_B, kind_B, kind_B + types)


def fill_shuffled(tokens_BT: Int32s, opens_BT: Bools, pick_BT: Ints, types: int, max_depth: int) -> None:
    """Fill the tokens of `shuffle_dyck`; the plain version of `_brackets_kernel.fill_shuffled`."""
    batch, length = tokens_BT.shape
    rows, depth_B = np.arange(batch), np.zeros(batch, np.int64)
    counts_BK = np.zeros((batch, types), np.int64)
    for t in range(length):
        chosen_B = opened(opens_BT[:, t], depth_B, length - t, max_depth)
        ranks_BK = np.cumsum(counts_BK > 0, axis=1)
        rank_B = (pick_BT[:, t] * ranks_BK[:, -1]) >> 32
        closing_B = np.argmax(ranks_BK > rank_B[:, None], axis=1)
        kind_B = np.where(chosen_B, (pick_BT[:, t] * types) >> 32, closing_B)
        change_B = np.where(chosen_B, 1, -1)
        counts_BK[rows, kind_B] += change_B
        depth_B += change_B
        tokens_BT[:, t] = np.where(chosen_B, kind_B, kind_B + types)


LANGUAGES: dict[str, Callable[[Int32s, Bools, Ints, int, int], None]] = {
    "dyck": fill_nested, "shuffle_dyck": fill_shuffled,
}
"""Language -> its plain version."""


def shape_entropy(science: BracketScience, length: int) -> float:
    """Return the entropy in nats of where a sequence opens and closes, its types aside.

    The depth is a Markov chain: the sum over positions of P(both are allowed) times the entropy of one coin.
    """
    p = science.p_open
    coin = -sum(q * math.log(q) for q in (p, 1.0 - p) if q > 0)
    at_depth = np.zeros(min(science.max_depth, (length + 1) // 2) + 2)
    at_depth[0], total = 1.0, 0.0
    depth = np.arange(len(at_depth))
    for t in range(length):
        full = (depth >= science.max_depth) | (depth >= length - t)
        opens = np.where(depth == 0, 1.0, np.where(full, 0.0, p))
        total += coin * float(at_depth[(depth > 0) & ~full].sum())
        moved = np.zeros_like(at_depth)
        moved[1:] += (at_depth * opens)[:-1]
        moved[:-1] += (at_depth * (1.0 - opens))[1:]
        at_depth = moved
    return total


def entropy(language: str, science: BracketScience, length: int) -> float:
    """Return the entropy of a sequence in nats: exact for `dyck`, an upper bound for `shuffle_dyck`.

    No model's summed loss over a sequence is below the entropy in expectation. Half of the brackets open, each of k
    types. Those that close are certain in `dyck`; in `shuffle_dyck` each is one of the open types, which are at most k
    and at most the largest depth.
    """
    opening, closing = (length + 1) // 2, length // 2
    total = shape_entropy(science, length) + opening * math.log(science.k)
    if language == "shuffle_dyck":
        total += closing * math.log(min(science.k, science.max_depth, max(opening, 1)))
    return total


def make_dyck(
    science: BracketScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> BracketSource:
    """Return the sequences of `dyck`; a `contract.MakeSource` that reads no bank.

    Raises:
        UsageError: a bank is given.
    """
    return _make("dyck", science, seed=seed, stream=stream, sequence_length=sequence_length, banks=banks)


def make_shuffle_dyck(
    science: BracketScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> BracketSource:
    """Return the sequences of `shuffle_dyck`; a `contract.MakeSource` that reads no bank.

    Raises:
        UsageError: a bank is given.
    """
    return _make("shuffle_dyck", science, seed=seed, stream=stream, sequence_length=sequence_length, banks=banks)


def _make(  # noqa: PLR0913 - the arguments of contract.MakeSource and the language
    language: str, science: BracketScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> BracketSource:
    if banks:
        raise UsageError(f"the upstream {language} reads no rule bank and {len(banks)} were given")
    return BracketSource(language, science, seed=seed, stream=stream, sequence_length=sequence_length)
