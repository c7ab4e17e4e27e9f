"""`life` and `eca`: every frame follows from the one before it, known patterns do what they are known for."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sweeps.errors import UsageError
from workloads.upstreams import eca, life
from workloads.upstreams._binary_ca_source import BinaryCaSource

Grid = npt.NDArray[np.uint8]
COUNTS = st.text("012345678", max_size=9).map(lambda text: "".join(sorted(set(text))))
KINDS = {"life": (life.PLUGIN, life.LifeScience), "eca": (eca.PLUGIN, eca.EcaScience)}


def source(kind: str, length: int = 256, stream: str = "train", seed: int = 1, **fields: object) -> BinaryCaSource:
    plugin, science = KINDS[kind]
    made = plugin.load()(science.model_validate(fields), seed=seed, stream=stream, sequence_length=length, banks=[])
    assert isinstance(made, BinaryCaSource)
    return made


def cells_of(tokens_T: npt.NDArray[np.int32], grid: tuple[int, int], patch: tuple[int, int]) -> list[Grid]:
    """Return the whole frames of a sequence, cell by cell, by the definition of a patch token."""
    (height, width), (rows, columns) = grid, patch
    start, patches = 2 ** (rows * columns), height // rows * (width // columns)
    frames = []
    for first in range(0, len(tokens_T) - patches - 1, patches + 2):
        frame = tokens_T[first : first + patches + 2]
        assert (frame[0], frame[-1]) == (start, start + 1)
        cells = np.zeros(grid, np.uint8)
        for number, token in enumerate(frame[1:-1].tolist()):
            top, left = number // (width // columns) * rows, number % (width // columns) * columns
            for bit in range(rows * columns):
                cells[top + bit // columns, left + bit % columns] = token >> bit & 1
        frames.append(cells)
    return frames


def slow_life(cells: Grid, born: str, survives: str) -> Grid:
    """Count for every living cell whom it touches: nothing shared with the product's sums over the grid."""
    height, width = cells.shape
    alive = {(int(y), int(x)) for y, x in zip(*np.nonzero(cells), strict=True)}
    touched = Counter(((y + dy) % height, (x + dx) % width) for y, x in alive
                      for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))
    after = np.zeros_like(cells)
    for y in range(height):
        for x in range(width):
            after[y, x] = str(touched[y, x]) in (survives if (y, x) in alive else born)
    return after


def slow_eca(row: list[int], rule: int) -> list[int]:
    """Look every pattern up in the rule written as Wolfram does: 111 first."""
    patterns = {f"{7 - place:03b}": int(bit) for place, bit in enumerate(f"{rule:08b}")}
    width = len(row)
    return [patterns[f"{row[x - 1]}{row[x]}{row[(x + 1) % width]}"] for x in range(width)]


@settings(max_examples=15)
@given(COUNTS, COUNTS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 5), st.integers(1, 3))
def test_a_life_frame_follows_from_the_one_before(  # noqa: PLR0913 - one argument for each field
    born: str, survives: str, rows: int, columns: int, patch: int, burn_in: int, stride: int
) -> None:
    height, width = max(3, rows * patch), max(3, columns * patch)
    height, width = height + -height % patch, width + -width % patch
    fields = {"rules": f"B{born}/S{survives}", "height": height, "width": width, "patch": patch, "burn_in": burn_in,
              "frame_stride": stride}
    made = source("life", 3 * (height * width // patch**2 + 2), **fields)
    index = np.array([0, 2**40])
    cells, _ = made.start(index)
    for row, tokens in enumerate(made.sequences(index).tokens_BT):
        state = cells[row]
        for frame, found in enumerate(cells_of(tokens, (height, width), (patch, patch))):
            for _ in range(stride if frame else burn_in):
                state = slow_life(state, born, survives)
            np.testing.assert_array_equal(found, state)


@settings(max_examples=40)
@given(st.integers(0, 255), st.integers(1, 12), st.integers(1, 9), st.integers(0, 5), st.integers(1, 3))
def test_an_eca_row_follows_from_the_one_before(rule: int, patches: int, patch: int, burn_in: int, stride: int) -> None:
    width = max(patches * patch, patch * math.ceil(3 / patch))
    made = source("eca", 4 * (width // patch + 2), rules=rule, width=width, patch=patch, burn_in=burn_in,
                  frame_stride=stride)
    cells, rules = made.start(np.arange(2))
    assert (rules == rule).all()
    for row, tokens in enumerate(made.sequences(np.arange(2)).tokens_BT):
        state = cells[row, 0].tolist()
        for frame, found in enumerate(cells_of(tokens, (1, width), (1, patch))):
            for _ in range(stride if frame else burn_in):
                state = slow_eca(state, rule)
            assert found[0].tolist() == state


def evolved(kind: str, cells: Grid, rule: int, frames: int, **fields: object) -> list[Grid]:
    """Return the frames that both paths make from `cells`."""
    made = source(kind, **fields)
    plain = BinaryCaSource(made.automaton, seed=1, stream="train", sequence_length=8, compiled=False)
    results = [s.evolve(cells[None], np.array([rule]), frames)[0] for s in (made, plain)]
    np.testing.assert_array_equal(*results)
    return [frame.reshape(cells.shape) for frame in results[0]]


def on_torus(*rows: str, size: int = 8) -> Grid:
    cells = np.zeros((size, size), np.uint8)
    for y, row in enumerate(rows):
        cells[y, : len(row)] = [char == "#" for char in row]
    return np.roll(cells, (-1, -1), axis=(0, 1))  # over the edges


CONWAY = life.rule_number("B3/S23")
SQUARE = {"height": 8, "width": 8}


@pytest.mark.parametrize("rows", [("##", "##"), (".##.", "#..#", ".##."), ("##.", "#.#", ".#.")],
                         ids=["block", "beehive", "boat"])
def test_still_lifes_stand_still(rows: tuple[str, ...]) -> None:
    cells = on_torus(*rows)
    for frame in evolved("life", cells, CONWAY, 4, **SQUARE):
        np.testing.assert_array_equal(frame, cells)


def test_a_blinker_blinks() -> None:
    lying, standing = on_torus("...", "###"), on_torus(".#.", ".#.", ".#.")
    for number, frame in enumerate(evolved("life", lying, CONWAY, 5, **SQUARE)):
        np.testing.assert_array_equal(frame, standing if number % 2 else lying)


def test_a_glider_goes_one_cell_down_and_right_in_four_steps_and_round_the_torus_in_32() -> None:
    glider = on_torus(".#.", "..#", "###")
    frames = evolved("life", glider, CONWAY, 33, **SQUARE)
    np.testing.assert_array_equal(frames[4], np.roll(glider, (1, 1), axis=(0, 1)))
    np.testing.assert_array_equal(frames[32], glider)
    assert not any((frame == glider).all() for frame in frames[1:32])


ROWS = {
    30: ("1", "111", "11001", "1101111", "110010001", "11011110111", "1100100001001"),
    90: ("1", "101", "10001", "1010101", "100000001", "10100000101", "1000100010001"),
    110: ("1", "110", "11100", "1101000", "111110000", "11000100000", "1110011000000"),
}
"""The first rows from a single 1, which is in the middle of each."""


@pytest.mark.parametrize("rule", ROWS)
def test_the_rows_of_rules_30_90_and_110_are_the_known_ones(rule: int) -> None:
    width, middle = 32, 16
    cells = np.zeros((1, width), np.uint8)
    cells[0, middle] = 1
    for number, frame in enumerate(evolved("eca", cells, rule, len(ROWS[rule]), width=width)):
        text = "".join(map(str, frame[0].tolist()))
        assert text == ROWS[rule][number].rjust(middle + number + 1, "0").ljust(width, "0")


def test_classes_are_the_usual_88_groups_and_part_all_rules() -> None:
    groups = {frozenset({r, eca.mirrored(r), eca.complemented(r), eca.mirrored(eca.complemented(r))})
              for r in range(256)}
    assert len(groups) == 88
    assert Counter(eca.wolfram_class(min(group)) for group in groups) == {
        "class-1": 8, "class-2": 65, "class-3": 11, "class-4": 4}
    assert sorted(r for name in eca.CLASSES for r in eca.rule_numbers(name)) == list(range(256))
    assert {0, 255} <= set(eca.rule_numbers("class-1")) and {110, 124, 137, 193} <= set(eca.rule_numbers("class-4"))


@given(st.integers(0, 255), st.lists(st.integers(0, 1), min_size=3, max_size=20))
def test_equivalent_rules_do_the_same_mirrored_and_swapped(rule: int, row: list[int]) -> None:
    after = slow_eca(row, rule)
    assert slow_eca(row[::-1], eca.mirrored(rule)) == after[::-1]
    assert slow_eca([1 - c for c in row], eca.complemented(rule)) == [1 - c for c in after]


@given(st.integers(0, life.RULES - 1))
def test_a_rule_in_b_s_notation_is_its_number(number: int) -> None:
    assert life.rule_number(life.rule_text(number)) == number


def test_rules_have_one_spelling() -> None:
    assert life.LifeScience(rules="b3/s32") == life.LifeScience()
    assert life.LifeScience(rules="B36/S23, B3/S23").rules == "B3/S23,B36/S23"
    assert eca.EcaScience.model_validate({"rules": [90, 30]}).rules == "30,90"
    assert eca.EcaScience.model_validate({"rules": 110}) == eca.EcaScience()


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_of_the_list_is_drawn_and_densities_keep_their_limits(kind: str) -> None:
    rules = {"life": "B3/S23,B36/S23,B2/S", "eca": "30,90,110"}[kind]
    cells, rule_B = source(kind, rules=rules, density_low=0.2, density_high=0.4).start(np.arange(3000))
    counts = np.unique(rule_B, return_counts=True)[1]
    assert len(counts) == 3 and ((counts - 1000) ** 2 / 1000).sum() < 13.8  # 99.9 % with 2 degrees of freedom
    shares = cells.reshape(3000, -1).mean(axis=1)
    # A share has variance 0.2^2/12 by its density and about 0.3 0.7 / 144 by its cells.
    assert abs(shares.mean() - 0.3) < 4 * math.sqrt((0.04 / 12 + 0.21 / 144) / 3000)
    assert abs(shares.var() / (0.04 / 12 + 0.21 / 144) - 1) < 0.15


def test_density_limits_may_meet_and_be_extreme() -> None:
    for density in (0.0, 1.0):
        cells, _ = source("life", density_low=density, density_high=density).start(np.arange(20))
        assert (cells == density).all()


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_are_the_same_in_any_batch_and_on_both_paths(kind: str) -> None:
    made, index = source(kind, rules="any", burn_in=2, frame_stride=3), np.array([5, 0, 2**40, 17])
    whole = made.sequences(index).tokens_BT
    for row, one in enumerate(index):
        np.testing.assert_array_equal(made.sequences(np.array([one])).tokens_BT[0], whole[row])
    slow = BinaryCaSource(made.automaton, seed=1, stream="train", sequence_length=256, compiled=False)
    np.testing.assert_array_equal(slow.sequences(index).tokens_BT, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_and_seeds_differ(kind: str) -> None:
    rows = [source(kind, 64, stream, seed, density_low=0.3, density_high=0.7).sequences(np.arange(2)).tokens_BT
            for stream, seed in (("train", 1), ("held_out", 1), ("train", 2))]
    assert len(np.unique(np.concatenate(rows), axis=0)) == 6


@pytest.mark.parametrize("kind, vocabulary, period", [("life", 18, 38), ("eca", 18, 38)])
def test_targets_are_the_patches_of_all_frames_but_the_first(kind: str, vocabulary: int, period: int) -> None:
    made = source(kind, 100)
    batch = made.sequences(np.arange(3))
    plugin, science = KINDS[kind]
    assert plugin.vocabulary is not None and plugin.vocabulary(science()) == made.vocabulary == vocabulary
    assert (made.period, made.sequence_length, batch.tokens_BT.shape) == (period, 100, (3, 100))
    assert batch.tokens_BT.min() >= 0 and batch.tokens_BT.max() < vocabulary
    place = np.arange(100)
    expected = (place >= period) & (place % period != 0) & (place % period != period - 1)
    assert (batch.target_BT == expected).all()
    np.testing.assert_array_equal(made.oracle(np.arange(3)), np.zeros((3, 100)))


@pytest.mark.parametrize("kind, fields, message", [
    ("life", {"rules": "3/23"}, "not in B/S notation"),
    ("life", {"rules": "B33/S2"}, "at most once"),
    ("life", {"rules": "B3/S23,b3/s32"}, "names a rule twice"),
    ("life", {"rules": ""}, "not in B/S notation"),
    ("life", {"rules": True}, "valid string"),
    ("life", {"height": 9}, "2x2 cells does not divide the 9x12 grid"),
    ("life", {"width": 2}, "greater than or equal to 3"),
    ("life", {"patch": 4}, "less than or equal to 3"),
    ("life", {"density_low": 0.6, "density_high": 0.5}, "density_low 0.6 is above density_high 0.5"),
    ("life", {"density_low": float("nan")}, "finite number"),
    ("eca", {"rules": 256}, "no number from 0 to 255"),
    ("eca", {"rules": -1}, "no number from 0 to 255"),
    ("eca", {"rules": "clas-4"}, "Did you mean 'class-4'"),
    ("eca", {"rules": "30,class-4"}, "one word alone"),
    ("eca", {"rules": [30, 30]}, "names a rule twice"),
    ("eca", {"rules": 30.5}, "valid string"),
    ("eca", {"width": 145}, "1x4 cells does not divide the 1x145 grid"),
    ("eca", {"patch": 16}, "less than or equal to 15"),
])
def test_bad_fields_are_refused(kind: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        KINDS[kind][1].model_validate(fields)


@pytest.mark.parametrize("kind", KINDS)
def test_banks_are_refused(kind: str, tmp_path: Path) -> None:
    plugin, science = KINDS[kind]
    with pytest.raises(UsageError, match=f"{kind} reads no rule bank"):
        plugin.load()(science(), seed=1, stream="train", sequence_length=64, banks=[tmp_path])


@pytest.mark.parametrize("kind, recorded", [("life", "8a5df1a53a4137b4"), ("eca", "690fe740bb07d1b0")])
def test_the_tokens_are_those_of_the_first_version(kind: str, recorded: str) -> None:
    tokens = source(kind, rules="any").sequences(np.arange(8)).tokens_BT.astype("<i4")
    assert hashlib.sha256(tokens.tobytes()).hexdigest()[:16] == recorded
