"""`utm`: the machine does what its description says, and sequences are the outputs of its programs."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sweeps.errors import UsageError
from workloads.upstreams import _utm_kernel as kernel
from workloads.upstreams._utm import INSTRUCTIONS, UtmSource, acceptance, run
from workloads.upstreams.utm import PLUGIN, UtmScience, pilot, vocabulary


def source(length: int = 256, stream: str = "train", seed: int = 1, **fields: object) -> UtmSource:
    made = PLUGIN.load()(UtmScience.model_validate(fields), seed=seed, stream=stream, sequence_length=length, banks=[])
    assert isinstance(made, UtmSource)
    return made


def machine(**fields: object) -> UtmScience:
    return UtmScience.model_validate({"min_output": 1, **fields})


def printed(text: str, science: UtmScience) -> list[int]:
    """Return what both interpreters print."""
    program = [INSTRUCTIONS.index(char) for char in text]
    plain = list(run(science, program))
    partner, stack, output = (np.zeros(max(1, size), np.int64) for size in (len(text), len(text), science.max_output))
    code = np.array(program, np.uint8)
    kernel.fill_partners(partner, stack, code)
    limits = (science.symbols, science.cells, science.steps, science.min_output, science.max_output)
    count = kernel.run(output, code, partner, np.full(science.cells, 5), limits)
    assert output[:count].tolist() == plain
    return plain


@pytest.mark.parametrize("text, expected", [
    ("", []),
    (".", [0]),
    ("+++.", [3]),
    ("-.", [15]),
    ("+++[.-]", [3, 2, 1]),
    ("+++[>++<-]>.", [6]),  # 3 x 2
    ("+++[>++++[>+<-]<-]>>.", [12]),  # 3 x 4, a loop in a loop
    ("+[.+]", list(range(1, 16))),  # until the cell wraps to 0
    (">+>++>+++[.<]", [3, 2, 1]),  # stops at the empty cell
    ("<+.>>.", [1, 0]),  # around the tape: the last cell
    ("[.]+.", [1]),  # a loop that is not entered
    ("[[.].]+.", [1]),  # jumps behind its own partner, not the first ]
    ("].+].", [0, 1]),  # brackets without a partner do nothing
    ("[.+[.", [0, 1]),
    ("+[.-]]+.", [1, 1]),
])
def test_programs_written_by_hand_print_what_they_should(text: str, expected: list[int]) -> None:
    assert printed(text, machine()) == expected


def test_symbols_cells_steps_and_output_have_their_limits() -> None:
    assert printed("+++.", machine(symbols=3)) == [0]
    assert printed("+>>.>.", machine(cells=2)) == [1, 0]
    assert printed("+>+>+++<<<.", machine(cells=3)) == [3]
    assert printed("+>.", machine(cells=1)) == [1]
    assert printed("++.", machine(steps=2, max_output=2)) == []
    assert printed("++.", machine(steps=3, max_output=2)) == [2]
    # + takes a step, then [ once, then . and ] in turn: 1 + 1 + 2 x 4 steps print four symbols, one more a fifth
    assert printed("+[.]", machine(steps=10, max_output=9)) == [1] * 4
    assert printed("+[.]", machine(steps=11, max_output=9)) == [1] * 5
    assert printed("+[.]", machine(max_output=7)) == [1] * 7
    assert printed("+[]", machine()) == []


@settings(max_examples=150)
@given(st.text(INSTRUCTIONS, max_size=60), st.integers(2, 9), st.integers(1, 5), st.integers(5, 300))
def test_both_interpreters_agree_on_any_program(text: str, symbols: int, cells: int, steps: int) -> None:
    science = machine(symbols=symbols, cells=cells, steps=steps, max_output=min(steps, 40))
    output = printed(text, science)
    assert len(output) <= science.max_output and all(0 <= symbol < symbols for symbol in output)


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(0, 20), st.integers(16, 40), st.integers(1, 150), st.integers(0, 2**40))
def test_a_sequence_is_the_outputs_of_its_programs_that_print_enough(
    least: int, more: int, program_length: int, length: int, first: int
) -> None:
    made = source(length, min_output=least, max_output=least + more, program_length=program_length, steps=200)
    expected: list[int] = []
    number = 0
    while len(expected) < length:
        [programs] = made.programs(np.array([first]), number).tolist()
        outputs = [list(run(made.science, program)) for program in programs]
        expected += [t for output in outputs if len(output) >= least for t in (*output, made.science.symbols)]
        number += 1
    assert made.sequences(np.array([first])).tokens_BT[0].tolist() == expected[:length]


def test_programs_are_as_long_as_asked_and_their_instructions_equally_likely() -> None:
    programs = source(program_length=61).programs(np.arange(50), 0)
    assert programs.shape == (50, 64, 61)
    for part in (programs, programs[..., 0], programs[..., 3], programs[..., 4], programs[..., 60]):
        counts = np.bincount(part.ravel(), minlength=7)
        expected = part.size / 7
        assert len(counts) == 7 and ((counts - expected) ** 2 / expected).sum() < 22.5  # 99.9 %, 6 degrees of freedom
    pairs = np.bincount((programs[..., 0] * 7 + programs[..., 1]).ravel(), minlength=49)
    assert ((pairs - 3200 / 49) ** 2 / (3200 / 49)).sum() < 84.0  # 48
    assert len(np.unique(programs.reshape(-1, 61), axis=0)) == 3200


def test_rounds_have_programs_of_their_own() -> None:
    made = source()
    assert not (made.programs(np.arange(1), 0) == made.programs(np.arange(1), 1)).all(axis=2).any()


def test_sequences_are_the_same_in_any_batch_and_on_both_paths() -> None:
    made, index = source(), np.array([5, 0, 2**40, 17])
    whole = made.sequences(index).tokens_BT
    for row, one in enumerate(index):
        np.testing.assert_array_equal(made.sequences(np.array([one])).tokens_BT[0], whole[row])
    slow = UtmSource(made.science, seed=1, stream="train", sequence_length=256, compiled=False)
    np.testing.assert_array_equal(slow.sequences(index).tokens_BT, whole)


def test_streams_and_seeds_differ() -> None:
    rows = [source(256, stream, seed).sequences(np.arange(2)).tokens_BT
            for stream, seed in (("train", 1), ("held_out", 1), ("train", 2))]
    assert len(np.unique(np.concatenate(rows), axis=0)) == 6


def test_the_tokens_are_those_of_the_first_version() -> None:
    tokens = source().sequences(np.arange(8)).tokens_BT.astype("<i4")
    assert hashlib.sha256(tokens.tobytes()).hexdigest()[:16] == "2e003741ca579fa3"


def test_the_pilot_refuses_programs_that_hardly_print() -> None:
    assert pilot(UtmScience()) == []
    [reason] = pilot(machine(program_length=3, min_output=4))
    assert "0 of 1000 random programs print 4 symbols" in reason and "lower utm.min_output" in reason


def test_the_acceptance_of_one_instruction_is_a_seventh() -> None:
    accepted, tried = acceptance(machine(program_length=1))
    assert abs(accepted / tried - 1 / 7) < 4 * math.sqrt(1 / 7 * 6 / 7 / tried)


@pytest.mark.parametrize("fields, message", [
    ({"min_output": 9, "max_output": 8}, "min_output 9, max_output 8 and steps 1000 must not fall"),
    ({"steps": 100}, "max_output 128 and steps 100 must not fall"),
    ({"min_output": 0}, "greater than or equal to 1"),
    ({"symbols": 1}, "greater than or equal to 2"),
    ({"program_length": 0}, "greater than or equal to 1"),
    ({"steps": 10**6}, "less than or equal to 20000"),
])
def test_bad_fields_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        UtmScience.model_validate(fields)


def test_targets_are_all_but_the_first_token_and_banks_are_refused(tmp_path: Path) -> None:
    made = source(16)
    batch = made.sequences(np.arange(2))
    assert vocabulary(made.science) == made.vocabulary == 17
    assert not batch.target_BT[:, 0].any() and batch.target_BT[:, 1:].all()
    np.testing.assert_array_equal(made.oracle(np.arange(2)), np.zeros((2, 16)))
    with pytest.raises(UsageError, match="utm reads no rule bank"):
        PLUGIN.load()(UtmScience(), seed=1, stream="train", sequence_length=16, banks=[tmp_path])
