"""Dyck and shuffle-Dyck: balance, nesting, depth, law, entropy, and the same bits everywhere."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sweeps.errors import UsageError
from workloads.upstreams import dyck, shuffle_dyck
from workloads.upstreams._brackets import BracketSource, entropy, shape_entropy

PLUGINS = {"dyck": dyck.PLUGIN, "shuffle_dyck": shuffle_dyck.PLUGIN}
BOTH = pytest.mark.parametrize("language", PLUGINS)


def made(language: str, length: int, stream: str = "train", seed: int = 1, **fields: object) -> BracketSource:
    plugin = PLUGINS[language]
    source = plugin.load()(
        plugin.science.model_validate(fields), seed=seed, stream=stream, sequence_length=length, banks=[]
    )
    assert isinstance(source, BracketSource)
    return source


def still_open(language: str, row: npt.NDArray[np.int32], k: int) -> tuple[list[int], int]:
    """Return the types left open, and the largest depth; closing what is not to be closed is an error."""
    left: list[int] = []
    deepest = 0
    for token in row.tolist():
        if token < k:
            left.append(token)
        elif language == "dyck":
            assert left.pop() == token - k, "not the bracket that was opened last"
        else:
            left.remove(token - k)  # ValueError where none is open
        deepest = max(deepest, len(left))
    return left, deepest


@BOTH
@settings(max_examples=60)
@given(st.integers(1, 70), st.integers(1, 80), st.floats(0, 1), st.integers(1, 20), st.integers(0, 2**40))
def test_every_type_is_balanced_and_no_depth_is_exceeded(
    language: str, k: int, length: int, p_open: float, max_depth: int, first: int
) -> None:
    source = made(language, length, k=k, p_open=p_open, max_depth=max_depth)
    tokens = source.sequences(np.arange(first, first + 3)).tokens_BT
    assert tokens.min() >= 0 and tokens.max() < source.vocabulary == 2 * k
    for row in tokens:
        left, deepest = still_open(language, row, k)
        assert deepest <= max_depth
        assert len(left) == length % 2  # an odd length cannot be balanced


def test_shuffle_dyck_crosses_its_brackets_and_dyck_does_not() -> None:
    row = made("shuffle_dyck", 64, k=4).sequences(np.arange(1)).tokens_BT[0]
    with pytest.raises(AssertionError, match="opened last"):
        still_open("dyck", row, 4)


@BOTH
@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 40), st.floats(0, 1), st.integers(1, 9), st.integers(0, 2**62))
def test_numpy_and_numba_give_the_same_bits(
    language: str, k: int, length: int, p_open: float, max_depth: int, first: int
) -> None:
    source = made(language, length, k=k, p_open=p_open, max_depth=max_depth)
    slow = BracketSource(language, source.science, seed=1, stream="train", sequence_length=length, compiled=False)
    index = np.array([first, 0, 2**63 - 1])
    np.testing.assert_array_equal(slow.sequences(index).tokens_BT, source.sequences(index).tokens_BT)


@BOTH
def test_a_sequence_is_the_same_in_any_batch(language: str) -> None:
    source, index = made(language, 100), np.array([5, 0, 2**40, 17])
    whole = source.sequences(index).tokens_BT
    for row, one in enumerate(index):
        np.testing.assert_array_equal(source.sequences(np.array([one])).tokens_BT[0], whole[row])


@pytest.mark.parametrize("language, recorded", [("dyck", "5ef109fb7edef1c6"), ("shuffle_dyck", "3966724973660c30")])
def test_the_sequences_are_those_of_the_first_version(language: str, recorded: str) -> None:
    tokens = made(language, 256).sequences(np.arange(8)).tokens_BT.astype("<i4")
    assert hashlib.sha256(tokens.tobytes()).hexdigest()[:16] == recorded


@BOTH
def test_streams_and_seeds_differ(language: str) -> None:
    rows = [made(language, 64, stream, seed).sequences(np.arange(2)).tokens_BT
            for stream, seed in (("train", 1), ("held_out", 1), ("train", 2))]
    assert len(np.unique(np.concatenate(rows), axis=0)) == 6


@BOTH
@pytest.mark.parametrize("p_open", [0.0, 0.5, 1.0])
def test_both_symbols_of_every_pair_occur_equally_often(language: str, p_open: float) -> None:
    tokens = made(language, 256, p_open=p_open).sequences(np.arange(64)).tokens_BT
    for row in tokens:
        np.testing.assert_array_equal(np.bincount(row[row < 64], minlength=64),
                                      np.bincount(row[row >= 64] - 64, minlength=64))
    assert len(np.unique(tokens)) == 128


@BOTH
def test_every_type_is_opened_equally_often(language: str) -> None:
    tokens = made(language, 1024, k=8).sequences(np.arange(64)).tokens_BT
    counts = np.bincount(tokens[tokens < 8], minlength=8)
    expected = counts.sum() / 8
    assert ((counts - expected) ** 2 / expected).sum() < 24.3  # 99.9 % with 7 degrees of freedom


def word_law(language: str, k: int, length: int, p_open: float, max_depth: int) -> dict[tuple[int, ...], float]:
    """Return every word and its probability, by walking all choices of the definition."""
    law: dict[tuple[int, ...], float] = {(): 1.0}
    for t in range(length):
        longer: dict[tuple[int, ...], float] = {}
        for word, chance in law.items():
            left, _ = still_open(language, np.array(word, np.int32), k)
            full = len(left) >= min(max_depth, length - t)
            opens = 1.0 if not left else 0.0 if full else p_open
            closing = left[-1:] if language == "dyck" else sorted(set(left))
            for kind, share in [(i, opens / k) for i in range(k)] + [(i + k, (1 - opens) / len(closing))
                                                                     for i in closing]:
                if share:
                    longer[*word, kind] = chance * share
        law = longer
    return law


@BOTH
@pytest.mark.parametrize("length, max_depth", [(5, 9), (6, 3), (7, 2), (8, 2)])
def test_every_word_has_the_probability_of_the_definition(language: str, length: int, max_depth: int) -> None:
    law, count = word_law(language, 2, length, 0.4, max_depth), 40_000
    tokens = made(language, length, k=2, p_open=0.4, max_depth=max_depth).sequences(np.arange(count)).tokens_BT
    seen = Counter(map(tuple, tokens.tolist()))
    assert sum(law.values()) == pytest.approx(1) and seen.keys() <= law.keys()
    square = sum((seen[word] - count * p) ** 2 / (count * p) for word, p in law.items())
    degrees = len(law) - 1
    assert square < degrees + 4 * math.sqrt(2 * degrees)


@pytest.mark.parametrize("k, length, p_open, max_depth", [
    (2, 6, 0.4, 3), (2, 7, 0.5, 2), (3, 5, 0.9, 9), (1, 8, 0.5, 4), (2, 6, 1.0, 3), (2, 1, 0.5, 1),
])
def test_the_entropy_is_that_of_all_words(k: int, length: int, p_open: float, max_depth: int) -> None:
    exact = {language: -sum(p * math.log(p) for p in word_law(language, k, length, p_open, max_depth).values())
             for language in PLUGINS}
    science = dyck.DyckScience(k=k, p_open=p_open, max_depth=max_depth)
    assert entropy("dyck", science, length) == pytest.approx(exact["dyck"], abs=1e-12)
    assert entropy("shuffle_dyck", science, length) >= exact["shuffle_dyck"] - 1e-12


@BOTH
@pytest.mark.parametrize("length, p_open, max_depth", [(5, 0.4, 9), (7, 0.5, 2), (6, 1.0, 3), (6, 0.0, 3)])
def test_the_oracle_is_the_entropy_of_the_next_token_after_each_prefix(
    language: str, length: int, p_open: float, max_depth: int
) -> None:
    after: dict[tuple[int, ...], Counter[int]] = {}
    for word, p in word_law(language, 2, length, p_open, max_depth).items():
        for t in range(length):
            after.setdefault(word[:t], Counter())[word[t]] += p  # type: ignore[assignment]
    source = made(language, length, k=2, p_open=p_open, max_depth=max_depth)
    index = np.arange(300)
    found = source.oracle(index)
    for row, word in zip(found, source.sequences(index).tokens_BT.tolist(), strict=True):
        laws = [np.array(list(after[tuple(word[:t])].values())) for t in range(length)]
        np.testing.assert_allclose(row, [-(q := law / law.sum()) @ np.log(q) for law in laws], atol=1e-8)


def test_the_oracle_of_dyck_sums_to_the_entropy_of_its_sequences() -> None:
    source = made("dyck", 64, k=5, p_open=0.45, max_depth=6)
    sums = source.oracle(np.arange(4000)).sum(axis=1)
    assert abs(sums.mean() - entropy("dyck", source.science, 64)) < 4 * sums.std() / math.sqrt(len(sums))


def test_the_shape_of_dyck_is_less_than_a_coin_for_every_token() -> None:
    for length, max_depth in itertools.product((2, 255, 256), (1, 2, 16)):
        found = shape_entropy(dyck.DyckScience(max_depth=max_depth), length)
        assert 0 <= found <= length * math.log(2)
        assert (found == 0) == (max_depth == 1 or length == 2)  # depth 1 is ()()()


@BOTH
def test_targets_are_all_but_the_first_token_and_banks_are_refused(language: str, tmp_path: Path) -> None:
    batch = made(language, 16).sequences(np.arange(2))
    assert not batch.target_BT[:, 0].any() and batch.target_BT[:, 1:].all()
    plugin = PLUGINS[language]
    with pytest.raises(UsageError, match=f"{language} reads no rule bank"):
        plugin.load()(plugin.science(), seed=1, stream="train", sequence_length=16, banks=[tmp_path])


@BOTH
@pytest.mark.parametrize("fields, message", [
    ({"k": 0}, "greater than or equal to 1"), ({"k": 40_000}, "less than or equal to 32767"),
    ({"p_open": 1.5}, "less than or equal to 1"), ({"p_open": math.nan}, "less than or equal to 1"),
    ({"max_depth": 0}, "greater than or equal to 1"), ({"depht": 3}, "Extra inputs"),
])
def test_a_field_outside_its_limits_is_refused(language: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PLUGINS[language].science.model_validate(fields)
