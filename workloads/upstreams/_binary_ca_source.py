"""Makes the sequences of `life` and `eca`: by a numba kernel where numba is installed, else in NumPy, bits equal.

Sequence i draws the blocks (i, 0, j) of the key (upstream, stream, seed), of which the upper half of the first word
counts: j = 0 says which rule, j = 1 the density between its limits, j = 2 + c whether cell c (row-major) lives in the
first grid. Nothing else is random.

Shapes: B sequences, F kept frames, H x W grid, S cells of the flat grid, P patches of a frame, C cells of a patch,
T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from workloads.contract import SequenceBatch
from workloads.upstreams import eca, life
from workloads.upstreams._bankless import refuse_banks
from workloads.upstreams._binary_ca import BinaryCaScience
from workloads.upstreams.nca.backend import fastest, has_numba
from workloads.upstreams.nca.philox import Words, derive_key, split
from workloads.upstreams.nca.tokens import cells, delimit

Ints = npt.NDArray[np.int64]
Grids = npt.NDArray[np.uint8]
ONE = 2**32
"""A draw of 32 bits is below this."""


@dataclass(frozen=True, kw_only=True)
class Automaton:
    """A kind of automaton, ready to run."""

    name: str
    """Key of its upstream."""
    science: BinaryCaScience
    rules: Sequence[int]
    """Those that sequences draw from."""
    grid: tuple[int, int]
    """Height and width in cells."""
    patch: tuple[int, int]
    """Height and width of a patch in cells."""
    step: Callable[[Grids, Ints], Grids]
    """(grids BHW, rules B) -> the next grids, in NumPy."""

    def patch_cells(self) -> Ints:
        """Return (P, C): the flat index of every patch's cells, both row-major."""
        (height, width), (rows, columns) = self.grid, self.patch
        cells = np.arange(height * width).reshape(height // rows, rows, width // columns, columns)
        return np.ascontiguousarray(cells.transpose(0, 2, 1, 3)).reshape(-1, rows * columns)


class BinaryCaSource:
    """Random access to trajectories of binary automata; a `contract.SequenceSource`."""

    def __init__(
        self, automaton: Automaton, *, seed: int, stream: str, sequence_length: int, compiled: bool = True
    ) -> None:
        """Make a source of sequences of `sequence_length` tokens; `compiled=False` keeps to NumPy, with equal bits."""
        self.automaton = automaton
        self._cells_PC = automaton.patch_cells()
        patches, cells = self._cells_PC.shape
        self.vocabulary = 2**cells + 2
        self.sequence_length = sequence_length
        self.period: int | None = patches + 2
        place_T = np.arange(sequence_length) % self.period
        inside_T = (place_T != 0) & (place_T != self.period - 1)
        self._targets_T = inside_T & (np.arange(sequence_length) >= self.period)
        self._rules = np.asarray(automaton.rules, dtype=np.int64)
        self._key = derive_key(automaton.name, stream, seed)
        self._backend = fastest()
        self._compiled = compiled and has_numba()

    def sequences(self, index_B: Ints) -> SequenceBatch:
        """Return the sequences with these indices, in this order."""
        grids, rule_B = self.start(index_B)
        assert self.period is not None
        frames_BFS = self.evolve(grids, rule_B, math.ceil(self.sequence_length / self.period))
        tokens = delimit(self._patch_tokens(frames_BFS), self.vocabulary - 2)[:, : self.sequence_length]
        return SequenceBatch(tokens_BT=tokens, target_BT=np.tile(self._targets_T, (len(tokens), 1)))

    def oracle(self, index_B: Ints) -> npt.NDArray[np.float64]:
        """Return (B, T) zeros: who knows the rule knows every target (the first frame, no target, counts as known)."""
        return np.zeros((len(index_B), self.sequence_length))

    def start(self, index_B: Ints) -> tuple[Grids, Ints]:
        """Return the first grids (B, H, W), before any burn-in, and the rules (B,) of these sequences."""
        science, (height, width) = self.automaton.science, self.automaton.grid
        words = self._backend.words(self._key, split(np.asarray(index_B, dtype=np.int64)), 2 + height * width)
        draws = words >> np.uint64(32)
        rule_B = self._rules[_below(draws[:, 0], len(self._rules)).astype(np.int64)]
        low, high = (int(density * ONE) for density in (science.density_low, science.density_high))
        density_B = np.uint64(low) + _below(draws[:, 1], high - low)
        return (draws[:, 2:] < density_B[:, None]).astype(np.uint8).reshape(-1, height, width), rule_B

    def evolve(self, grids_BHW: Grids, rule_B: Ints, frames: int) -> Grids:
        """Return the first `frames` kept frames (B, F, S) from these grids under these rules."""
        science = self.automaton.science
        kept = np.empty((len(grids_BHW), frames, grids_BHW[0].size), np.uint8)
        if self._compiled:
            from workloads.upstreams import _binary_ca_kernel as kernel

            fill = {"life": kernel.fill_life, "eca": kernel.fill_eca}[self.automaton.name]
            fill(kept, grids_BHW, rule_B, (science.burn_in, science.frame_stride))
            return kept
        for frame in range(frames):
            for _ in range(science.frame_stride if frame else science.burn_in):
                grids_BHW = self.automaton.step(grids_BHW, rule_B)
            kept[:, frame] = grids_BHW.reshape(len(kept), -1)
        return kept

    def _patch_tokens(self, frames_BFS: Grids) -> npt.NDArray[np.int32]:
        patches, cells = self._cells_PC.shape
        tokens = np.zeros((*frames_BFS.shape[:2], patches), np.int32)
        for cell in reversed(range(cells)):
            tokens *= 2
            tokens += frames_BFS[:, :, self._cells_PC[:, cell]]
        return tokens


def _below(draws: Words, count: int) -> Words:
    """Return numbers below `count` (at most 2^32) by 32 random bits each."""
    return np.asarray((draws * np.uint64(count)) >> np.uint64(32))


def life_step(grids_BHW: Grids, rule_B: Ints) -> Grids:
    """Return the next grids of life-like rules; the plain version of `_binary_ca_kernel.fill_life`."""
    places = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    neighbours = sum(np.roll(grids_BHW, place, axis=(1, 2)) for place in places)
    bit = grids_BHW * np.int64(9) + neighbours
    return ((rule_B[:, None, None] >> bit) & 1).astype(np.uint8)


def eca_step(grids_BHW: Grids, rule_B: Ints) -> Grids:
    """Return the next rows of elementary rules; the plain version of `_binary_ca_kernel.fill_eca`."""
    left, right = np.roll(grids_BHW, 1, axis=2), np.roll(grids_BHW, -1, axis=2)
    pattern = np.int64(4) * left + 2 * grids_BHW + right
    return ((rule_B[:, None, None] >> pattern) & 1).astype(np.uint8)


def make_life(
    science: life.LifeScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> BinaryCaSource:
    """Return the sequences of `stream`; a `contract.MakeSource` that reads no bank.

    Raises:
        UsageError: a bank is given.
    """
    refuse_banks("life", banks)
    automaton = Automaton(
        name="life", science=science, rules=life.rule_numbers(science.rules), grid=(science.height, science.width),
        patch=(science.patch, science.patch), step=life_step,
    )
    return BinaryCaSource(automaton, seed=seed, stream=stream, sequence_length=sequence_length)


def make_eca(
    science: eca.EcaScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> BinaryCaSource:
    """Return the sequences of `stream`; a `contract.MakeSource` that reads no bank.

    Raises:
        UsageError: a bank is given.
    """
    refuse_banks("eca", banks)
    automaton = Automaton(
        name="eca", science=science, rules=eca.rule_numbers(science.rules), grid=(1, science.width),
        patch=(1, science.patch), step=eca_step,
    )
    return BinaryCaSource(automaton, seed=seed, stream=stream, sequence_length=sequence_length)


def life_frames(science: life.LifeScience, tokens_BT: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return the cells of the sequences; a `contract.Frames`."""
    return cells(tokens_BT, 2, (science.height, science.width), (science.patch, science.patch))


def eca_frames(science: eca.EcaScience, tokens_BT: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return the cells of the sequences; a `contract.Frames`."""
    return cells(tokens_BT, 2, (1, science.width), (1, science.patch))
