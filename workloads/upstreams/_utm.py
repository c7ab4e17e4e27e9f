"""Runs random programs: by a numba kernel where numba is installed, else in plain Python, bits equal.

Programs come in rounds of 64. Round r of sequence i is drawn from the blocks (i, 0, j) of the key ("utm", r, stream,
seed): the first 64-bit word of a block makes eight instructions, four of each half, upper half first. A half is a
fraction of 2^32; its instructions are its first four digits in base 7.

Shapes: B sequences, T tokens, R programs of a round, L instructions of a program, X words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from sweeps.errors import UsageError
from workloads.contract import SequenceBatch
from workloads.upstreams._bankless import all_but_first, refuse_banks
from workloads.upstreams.nca import reference
from workloads.upstreams.nca.backend import fastest, has_numba
from workloads.upstreams.nca.philox import LOW32, Words, derive_key, split
from workloads.upstreams.nca.rollout import Backend
from workloads.upstreams.utm import UtmScience

Ints = npt.NDArray[np.int64]
Programs = npt.NDArray[np.uint8]
INSTRUCTIONS = "<>+-.[]"
"""An instruction is its place here."""
ROUND = 64
"""Programs that are drawn together: part of the definition of the data."""
DIGITS = 4
"""Instructions of 32 random bits; 7^4 divides 2^32 up to a part in 1.8 million."""
PILOT_STEPS = 2_000_000
"""Instructions that the pilot executes at most, or a hundred programs."""
MAX_ROUNDS = 100_000
"""Only a science that its pilot would refuse comes here: in any other, one in a hundred programs is taken."""


def decode(words_X: Words, length: int) -> Programs:
    """Return (programs, `length`) instructions from words (..., programs x words of a program)."""
    part = np.stack([words_X >> np.uint64(32), words_X & np.uint64(LOW32)], axis=-1)
    digits = np.empty((*part.shape, DIGITS), np.uint8)
    for place in range(DIGITS):
        part = part * np.uint64(len(INSTRUCTIONS))
        digits[..., place] = part >> np.uint64(32)
        part &= np.uint64(LOW32)
    width = words_of(length) * 2 * DIGITS
    return np.ascontiguousarray(digits.reshape(*words_X.shape[:-1], -1, width)[..., :length])


def words_of(length: int) -> int:
    """Return how many 64-bit words a program of `length` instructions takes."""
    return math.ceil(length / (2 * DIGITS))


def partners(program: Sequence[int]) -> list[int]:
    """Return, for every instruction, the place of the matching bracket, and its own where there is none."""
    found = list(range(len(program)))
    open_brackets: list[int] = []
    for place, instruction in enumerate(program):
        if INSTRUCTIONS[instruction] == "[":
            open_brackets.append(place)
        elif INSTRUCTIONS[instruction] == "]" and open_brackets:
            other = open_brackets.pop()
            found[place], found[other] = other, place
    return found


def run(science: UtmScience, program: Sequence[int]) -> Iterator[int]:
    """Yield what a program prints; the plain version of `_utm_kernel.run`."""
    partner, tape = partners(program), [0] * science.cells
    head = place = printed = 0
    for _ in range(science.steps):
        if place >= len(program) or printed == science.max_output:
            return
        match INSTRUCTIONS[program[place]]:
            case ">":
                head = (head + 1) % science.cells
            case "<":
                head = (head - 1) % science.cells
            case "+":
                tape[head] = (tape[head] + 1) % science.symbols
            case "-":
                tape[head] = (tape[head] - 1) % science.symbols
            case ".":
                printed += 1
                yield tape[head]
            case "[" if tape[head] == 0:
                place = partner[place]
            case "]" if tape[head] != 0:
                place = partner[place]
        place += 1


def acceptance(science: UtmScience) -> tuple[int, int]:
    """Return (taken, tried) of up to 1,000 random programs, in about a second at most."""
    tried = min(1000, max(100, PILOT_STEPS // science.steps))
    count = tried * words_of(science.program_length)
    words = reference.words(derive_key("utm", "pilot"), split(np.zeros(1, np.int64)), count)
    outputs = (sum(1 for _ in run(science, program)) for program in decode(words, science.program_length)[0].tolist())
    return sum(printed >= science.min_output for printed in outputs), tried


class UtmSource:
    """Random access to the outputs of random programs; a `contract.SequenceSource`."""

    period: int | None = None

    def __init__(
        self, science: UtmScience, *, seed: int, stream: str, sequence_length: int, compiled: bool = True
    ) -> None:
        """Make a source of sequences of `sequence_length` tokens; `compiled=False` keeps to Python, with equal bits."""
        self.science = science
        self.vocabulary = science.symbols + 1
        self.sequence_length = sequence_length
        self._seed, self._stream = seed, stream
        self._backend = fastest() if compiled else cast(Backend, reference)
        self._compiled = compiled and has_numba()

    def programs(self, index_B: Ints, number: int) -> Programs:
        """Return the programs (B, R, L) of round `number` of these sequences."""
        key = derive_key("utm", number, self._stream, self._seed)
        count = ROUND * words_of(self.science.program_length)
        return decode(self._backend.words(key, split(index_B), count), self.science.program_length)

    def sequences(self, index_B: Ints) -> SequenceBatch:
        """Return the sequences with these indices, in this order.

        Raises:
            UsageError: hardly any program prints `min_output` symbols.
        """
        index_B = np.asarray(index_B, dtype=np.int64)
        tokens = np.empty((len(index_B), self.sequence_length), np.int32)
        filled_B = np.zeros(len(index_B), np.int64)
        rest = np.arange(len(index_B))
        for number in range(MAX_ROUNDS):
            rest = rest[filled_B[rest] < self.sequence_length]
            if not len(rest):
                return all_but_first(tokens)
            self._fill(tokens, filled_B, rest, self.programs(index_B[rest], number))
        raise UsageError(f"utm: {MAX_ROUNDS * ROUND:,} programs made no sequence of {self.sequence_length} tokens; "
                         "lower utm.min_output")

    def oracle(self, index_B: Ints) -> npt.NDArray[np.float64]:
        """Return (B, T) zeros: who knows the programs knows every token."""
        return np.zeros((len(index_B), self.sequence_length))

    def _fill(self, tokens_BT: npt.NDArray[np.int32], filled_B: Ints, rest: Ints, programs: Programs) -> None:
        science = self.science
        if self._compiled:
            from workloads.upstreams._utm_kernel import fill_tokens

            limits = (science.symbols, science.cells, science.steps, science.min_output, science.max_output)
            fill_tokens(tokens_BT, filled_B, rest, programs, limits)
            return
        for row, some in zip(rest.tolist(), programs.tolist(), strict=True):
            python_tokens(tokens_BT[row], filled_B[row : row + 1], some, science)


def python_tokens(
    tokens_T: npt.NDArray[np.int32], filled: Ints, programs: Sequence[Sequence[int]], science: UtmScience
) -> None:
    """Go on filling one sequence from `filled[0]`; the plain version of `_utm_kernel.fill_tokens`."""
    for program in programs:
        start = int(filled[0])
        if start == len(tokens_T):
            return
        output = list(run(science, program))
        if len(output) >= science.min_output:
            part = [*output, science.symbols][: len(tokens_T) - start]
            tokens_T[start : start + len(part)] = part
            filled[0] += len(part)


def make_source(
    science: UtmScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> UtmSource:
    """Return the sequences of `stream`; a `contract.MakeSource` that reads no bank.

    Raises:
        UsageError: a bank is given.
    """
    refuse_banks("utm", banks)
    return UtmSource(science, seed=seed, stream=stream, sequence_length=sequence_length)
