"""Makes strings of random automata: drawn in NumPy, walked by a numba kernel where numba is installed, else in NumPy.

The automaton of sequence i is drawn from the blocks (i, 0, j) of the key ("regular", "automaton", stream, seed), its
token t from the block (i, 0, t) of the key ("regular", "string", stream, seed): the upper half of the first word says
whether the string ends, the lower half which edge it takes.

Shapes: B sequences, T tokens, S states at most, E edges at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from workloads.contract import SequenceBatch
from workloads.upstreams._bankless import all_but_first, refuse_banks
from workloads.upstreams.nca.backend import fastest, has_numba
from workloads.upstreams.nca.philox import LOW32, Words, derive_key, split
from workloads.upstreams.regular import RegularScience

Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Automata:
    """Random automata; what lies beyond a state's edges has no weight, what lies beyond the states is never reached."""

    states_B: Ints
    """How many states."""
    symbols_BSE: Ints
    """Symbol of an edge."""
    targets_BSE: Ints
    """State that an edge leads to."""
    cumulative_BSE: Ints
    """Sum of the weights of the edges up to this one."""

    @property
    def weights_BSE(self) -> Ints:
        """Weight of an edge; 0 where there is none."""
        return np.diff(self.cumulative_BSE, axis=2, prepend=0)

    @property
    def chances_BSE(self) -> Floats:
        """Probability of an edge where a string goes on."""
        return np.asarray(self.weights_BSE / self.cumulative_BSE[:, :, -1:])


def draw_automata(science: RegularScience, word_BX: Words) -> Automata:
    """Return an automaton for each row of words.

    The upper half of word 0 says how many states. Each state then has 1 + 2 E words: how many edges, and for each
    edge its symbol and target (upper and lower half) and its weight.
    """
    upper, lower = _halves(word_BX)
    batch, states, edges = len(word_BX), science.states_high, science.edges_high
    states_B = science.states_low + _below(upper[:, 0], states - science.states_low + 1)
    upper, lower = (part[:, 1:].reshape(batch, states, 1 + 2 * edges) for part in (upper, lower))
    count_BS = science.edges_low + _below(upper[:, :, 0], edges - science.edges_low + 1)
    exists_BSE = np.arange(edges) < count_BS[:, :, None]
    weights_BSE = np.where(exists_BSE, 1 + _below(upper[:, :, 2::2], science.max_weight), 0)
    return Automata(
        states_B=states_B, symbols_BSE=_different(upper[:, :, 1::2], science.symbols),
        targets_BSE=(lower[:, :, 1::2] * states_B[:, None, None]) >> 32, cumulative_BSE=weights_BSE.cumsum(axis=2),
    )


def _halves(words: Words) -> tuple[Ints, Ints]:
    return (words >> np.uint64(32)).astype(np.int64), (words & np.uint64(LOW32)).astype(np.int64)


def _below(draws: Ints, count: int) -> Ints:
    """Return numbers below `count` by 32 random bits each."""
    return (draws * count) >> 32


def _different(draws_BSE: Ints, count: int) -> Ints:
    """Return different numbers below `count` along the last axis: edge e takes one of those that are left."""
    taken = np.empty((*draws_BSE.shape[:2], 0), np.int64)
    for edge in range(draws_BSE.shape[2]):
        number = _below(draws_BSE[:, :, edge], count - edge)
        for other in np.moveaxis(np.sort(taken, axis=2), 2, 0):
            number = number + (number >= other)
        taken = np.concatenate([taken, number[:, :, None]], axis=2)
    return taken


def entropy_rate(science: RegularScience, automata: Automata) -> Floats:
    """Return (B,): nats per token of each automaton's strings and delimiters, for a reader that knows it."""
    p_end, chances_BSE = science.p_end, automata.chances_BSE
    batch, states, _ = chances_BSE.shape
    moves_BSS = np.zeros((batch, states, states))
    row_B11, from_S1 = np.arange(batch)[:, None, None], np.arange(states)[:, None]
    np.add.at(moves_BSS, (row_B11, from_S1, automata.targets_BSE), chances_BSE)
    start_S1 = np.eye(states)[:, :1]
    visits_BS = np.linalg.solve(np.eye(states) - (1 - p_end) * moves_BSS.transpose(0, 2, 1), start_S1[None])[..., 0]
    edges_B = np.sum(visits_BS * _entropy(chances_BSE), axis=1)
    return np.asarray((p_end * edges_B + _entropy(np.array([p_end, 1 - p_end]))) / (1 + p_end))


def _entropy(chances: Floats) -> Floats:
    """Return the entropy in nats of the laws along the last axis."""
    return np.asarray(-(chances * np.log(np.where(chances > 0, chances, 1.0))).sum(axis=-1))


class RegularSource:
    """Random access to strings of random automata; a `contract.SequenceSource`."""

    period: int | None = None

    def __init__(
        self, science: RegularScience, *, seed: int, stream: str, sequence_length: int, compiled: bool = True
    ) -> None:
        """Make a source of sequences of `sequence_length` tokens; `compiled=False` keeps to NumPy, with equal bits."""
        self.science = science
        self.vocabulary = science.symbols + 1
        self.sequence_length = sequence_length
        self._automaton_key, self._string_key = (derive_key("regular", part, stream, seed)
                                                 for part in ("automaton", "string"))
        self._backend = fastest()
        self._compiled = compiled and has_numba()

    def automata(self, index_B: Ints) -> Automata:
        """Return the automata of these sequences."""
        science = self.science
        count = 1 + science.states_high * (1 + 2 * science.edges_high)
        return draw_automata(science, self._backend.words(self._automaton_key, split(np.asarray(index_B)), count))

    def sequences(self, index_B: Ints) -> SequenceBatch:
        """Return the sequences with these indices, in this order."""
        index_B = np.asarray(index_B, dtype=np.int64)
        automata = self.automata(index_B)
        upper, pick_BT = _halves(self._backend.words(self._string_key, split(index_B), self.sequence_length))
        ends_BT = upper < int(self.science.p_end * 2**32)
        if not self._compiled:
            return all_but_first(numpy_tokens(automata, ends_BT, pick_BT, self.science.symbols))
        from workloads.upstreams._regular_kernel import fill_tokens

        tokens = np.empty(ends_BT.shape, np.int32)
        parts = (automata.symbols_BSE, automata.targets_BSE, automata.cumulative_BSE)
        fill_tokens(tokens, parts, ends_BT, pick_BT, self.science.symbols)
        return all_but_first(tokens)

    def oracle(self, index_B: Ints) -> Floats:
        """Return (B, T): nats that each token costs in expectation who knows the automaton and the tokens before."""
        automata, tokens_BT = self.automata(index_B), self.sequences(index_B).tokens_BT
        p_end, symbols_BSE = self.science.p_end, automata.symbols_BSE
        edges_BS, coin = _entropy(automata.chances_BSE), _entropy(np.array([p_end, 1 - p_end]))
        rows = np.arange(len(tokens_BT))
        state_B, empty_B = np.zeros(len(rows), np.int64), np.ones(len(rows), np.bool_)
        nats_BT = np.empty(tokens_BT.shape)
        for t, token_B in enumerate(tokens_BT.T):
            edge_nats_B = edges_BS[rows, state_B]
            nats_BT[:, t] = np.where(empty_B, edge_nats_B, coin + (1 - p_end) * edge_nats_B)
            empty_B = token_B == self.science.symbols
            edge_B = np.argmax(symbols_BSE[rows, state_B] == token_B[:, None], axis=1)
            state_B = np.where(empty_B, 0, automata.targets_BSE[rows, state_B, edge_B])
        return nats_BT


def numpy_tokens(automata: Automata, ends_BT: npt.NDArray[np.bool_], pick_BT: Ints, delimiter: int) -> Int32s:
    """Return the tokens; the plain version of `_regular_kernel.fill_tokens`."""
    batch, length = ends_BT.shape
    rows = np.arange(batch)
    state_B, empty_B = np.zeros(batch, np.int64), np.ones(batch, np.bool_)
    tokens = np.empty((batch, length), np.int32)
    for t in range(length):
        cumulative_BE = automata.cumulative_BSE[rows, state_B]
        point_B = (pick_BT[:, t] * cumulative_BE[:, -1]) >> 32
        edge_B = np.argmax(cumulative_BE > point_B[:, None], axis=1)
        end_B = ends_BT[:, t] & ~empty_B
        tokens[:, t] = np.where(end_B, delimiter, automata.symbols_BSE[rows, state_B, edge_B])
        state_B = np.where(end_B, 0, automata.targets_BSE[rows, state_B, edge_B])
        empty_B = end_B
    return tokens


def make_source(
    science: RegularScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> RegularSource:
    """Return the sequences of `stream`; a `contract.MakeSource` that reads no bank.

    Raises:
        UsageError: a bank is given.
    """
    refuse_banks("regular", banks)
    return RegularSource(science, seed=seed, stream=stream, sequence_length=sequence_length)
