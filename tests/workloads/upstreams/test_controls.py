"""The shuffled control and shuffle-Dyck."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import UsageError
from tests.workloads.upstreams.conftest import SEED, small
from workloads.upstreams._shuffle_dyck import ShuffleDyckSource
from workloads.upstreams.nca.source import make_source
from workloads.upstreams.nca_shuffled import PLUGIN as SHUFFLED
from workloads.upstreams.shuffle_dyck import PLUGIN as DYCK
from workloads.upstreams.shuffle_dyck import ShuffleDyckScience


def test_shuffling_permutes_patches_and_keeps_delimiters_and_targets(small_banks: list[Path]) -> None:
    index = np.arange(40)
    plain = make_source(small(), seed=SEED, stream="train", sequence_length=250, banks=small_banks).sequences(index)
    control = SHUFFLED.load()(small(), seed=SEED, stream="train", sequence_length=250, banks=small_banks)
    batch = control.sequences(index)
    delimiter = plain.tokens_BT >= 256
    np.testing.assert_array_equal(batch.tokens_BT[delimiter], plain.tokens_BT[delimiter])
    np.testing.assert_array_equal(np.sort(batch.tokens_BT, axis=1), np.sort(plain.tokens_BT, axis=1))
    np.testing.assert_array_equal(batch.target_BT, plain.target_BT)
    assert (batch.tokens_BT != plain.tokens_BT).any(axis=1).all()
    assert (control.vocabulary, control.period, control.sequence_length) == (258, 18, 250)
    alone = control.sequences(np.array([17, 3]))
    np.testing.assert_array_equal(alone.tokens_BT, batch.tokens_BT[[17, 3]])


def test_the_permutation_differs_from_sequence_to_sequence(small_banks: list[Path]) -> None:
    science = small(rules={"unique": 1}, temperature=1e-4)
    control = SHUFFLED.load()(small(), seed=SEED, stream="train", sequence_length=36, banks=small_banks)
    other = SHUFFLED.load()(small(), seed=SEED + 1, stream="train", sequence_length=36, banks=small_banks)
    assert science.rules.unique == 1
    assert not (control.sequences(np.arange(4)).tokens_BT == other.sequences(np.arange(4)).tokens_BT).all(axis=1).any()


def dyck(length: int, stream: str = "train", seed: int = 1, **fields: object) -> ShuffleDyckSource:
    source = DYCK.load()(
        ShuffleDyckScience.model_validate(fields), seed=seed, stream=stream, sequence_length=length, banks=[]
    )
    assert isinstance(source, ShuffleDyckSource)
    return source


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 80), st.floats(0, 1), st.integers(1, 20), st.integers(0, 2**40))
def test_every_type_is_balanced_and_no_depth_is_exceeded(
    k: int, length: int, p_open: float, max_depth: int, first: int
) -> None:
    source = dyck(length, k=k, p_open=p_open, max_depth=max_depth)
    tokens = source.sequences(np.arange(first, first + 3)).tokens_BT
    assert tokens.min() >= 0 and tokens.max() < source.vocabulary == 2 * k
    for row in tokens:
        steps = np.zeros((length, k), np.int64)
        steps[np.arange(length), row % k] = np.where(row < k, 1, -1)
        open_TK = steps.cumsum(axis=0)
        assert open_TK.min() >= 0
        assert open_TK.sum(axis=1).max() <= max_depth
        assert open_TK[-1].sum() == length % 2  # an odd length cannot be balanced


def test_dyck_sequences_are_the_same_in_any_batch_and_on_both_paths() -> None:
    source, index = dyck(100), np.array([5, 0, 2**40, 17])
    whole = source.sequences(index).tokens_BT
    for row, one in enumerate(index):
        np.testing.assert_array_equal(source.sequences(np.array([one])).tokens_BT[0], whole[row])
    slow = ShuffleDyckSource(ShuffleDyckScience(), seed=1, stream="train", sequence_length=100, compiled=False)
    np.testing.assert_array_equal(slow.sequences(index).tokens_BT, whole)


def test_both_controls_are_those_of_the_first_version(small_banks: list[Path]) -> None:
    shuffled = SHUFFLED.load()(small(), seed=SEED, stream="train", sequence_length=256, banks=small_banks)
    for source, recorded in ((shuffled, "d4f8d252b3d748b8"), (dyck(256), "3966724973660c30")):
        tokens = source.sequences(np.arange(8)).tokens_BT.astype("<i4")
        assert hashlib.sha256(tokens.tobytes()).hexdigest()[:16] == recorded


def test_dyck_streams_and_seeds_differ() -> None:
    rows = [dyck(64, stream, seed).sequences(np.arange(2)).tokens_BT
            for stream, seed in (("train", 1), ("held_out", 1), ("train", 2))]
    assert len(np.unique(np.concatenate(rows), axis=0)) == 6


def test_dyck_opens_every_type_equally_often() -> None:
    tokens = dyck(1024, k=8).sequences(np.arange(64)).tokens_BT
    counts = np.bincount(tokens[tokens < 8], minlength=8)
    expected = counts.sum() / 8
    assert ((counts - expected) ** 2 / expected).sum() < 24.3  # 99.9 % with 7 degrees of freedom


def test_dyck_targets_are_all_but_the_first_token_and_banks_are_refused(tmp_path: Path) -> None:
    batch = dyck(16).sequences(np.arange(2))
    assert not batch.target_BT[:, 0].any() and batch.target_BT[:, 1:].all()
    with pytest.raises(UsageError, match="no rule bank"):
        DYCK.load()(ShuffleDyckScience(), seed=1, stream="train", sequence_length=16, banks=[tmp_path])
