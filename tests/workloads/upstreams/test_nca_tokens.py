"""Tokens, delimiters, targets."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workloads.upstreams.conftest import small
from workloads.upstreams.nca.science import NcaScience
from workloads.upstreams.nca.tokens import cells, delimit, frames_of, patch_positions, patch_tokens, target_mask


def test_a_patch_counts_its_first_cell_least() -> None:
    assert patch_tokens(np.array([[[[1, 2], [3, 4]]]], np.uint8), 10, 2).tolist() == [[[4321]]]


def test_patches_are_row_major() -> None:
    frame = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4) // 2 % 4
    assert patch_tokens(frame, 10, 2).shape == (1, 1, 4)
    corners = np.zeros((1, 1, 4, 4), np.uint8)
    corners[0, 0, 0, 2] = 1
    assert patch_tokens(corners, 10, 2)[0, 0].tolist() == [0, 1, 0, 0]


@settings(max_examples=50)
@given(st.integers(2, 10), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32))
def test_tokens_can_be_turned_back_into_cells(n: int, p: int, rows: int, columns: int, seed: int) -> None:
    frames = np.random.default_rng(seed).integers(0, n, (2, 3, rows * p, columns * p), np.uint8)
    tokens = patch_tokens(frames, n, p).astype(np.int64)
    digits = tokens[..., None] // n ** np.arange(p * p) % n
    back = digits.reshape(2, 3, rows, columns, p, p).transpose(0, 1, 2, 4, 3, 5).reshape(frames.shape)
    np.testing.assert_array_equal(back, frames)
    assert tokens.max() < n ** (p * p)


@settings(max_examples=50)
@given(st.integers(2, 9), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32))
def test_frames_are_read_back_from_finished_sequences_and_a_cut_frame_is_left_out(
    n: int, p: int, rows: int, columns: int, seed: int
) -> None:
    science = NcaScience.model_validate({"states": min(n, 3) if p == 3 else n, "patch": p, "grid": {
        "height": 2 * rows * p, "width": 2 * columns * p}})
    frames = np.random.default_rng(seed).integers(0, science.states, (2, 3, 2 * rows * p, 2 * columns * p), np.uint8)
    tokens = delimit(patch_tokens(frames, science.states, p), science.vocabulary - 2)
    np.testing.assert_array_equal(frames_of(science, tokens), frames)
    np.testing.assert_array_equal(frames_of(science, tokens[:, :-1]), frames[:, :2])


def test_frames_of_a_ring_have_one_row() -> None:
    tokens = np.array([[4, 1, 2, 5, 4, 3, 0, 5]], np.int32)
    assert cells(tokens, 2, (1, 4), (1, 2)).tolist() == [[[[1, 0, 0, 1]], [[1, 1, 0, 0]]]]


def test_each_frame_stands_between_its_delimiters() -> None:
    tokens = delimit(np.arange(12, dtype=np.int32).reshape(1, 2, 6), 100)
    assert tokens.tolist() == [[100, 0, 1, 2, 3, 4, 5, 101, 100, 6, 7, 8, 9, 10, 11, 101]]


def test_the_first_frame_is_never_a_target_and_delimiters_only_by_the_quirk() -> None:
    science = small()
    plain, quirk = target_mask(science, False, 256), target_mask(science, True, 256)
    assert not plain[:18].any() and not quirk[:18].any()
    assert quirk[18:].all()
    delimiters = np.isin(np.arange(256) % 18, (0, 17))
    assert not plain[delimiters].any() and plain[18:][~delimiters[18:]].all()


def test_a_sequence_of_1024_tokens_holds_26_frames_and_a_cut_one() -> None:
    assert len(patch_positions(NcaScience(), 1024)) == 26 * 36 + 35
