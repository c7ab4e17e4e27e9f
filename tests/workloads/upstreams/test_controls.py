"""The controls of NCA: each keeps what it says and lacks what it says."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from sweeps.errors import RecordError, UsageError
from tests.workloads.upstreams.conftest import SEED, small
from workloads.contract import SequenceSource
from workloads.upstreams import nca, nca_one_rule, nca_shuffled, nca_static, nca_unigram
from workloads.upstreams.nca import reference
from workloads.upstreams.nca.open_bank import open_bank
from workloads.upstreams.nca.rollout import neighbours
from workloads.upstreams.nca.science import bank_fields
from workloads.upstreams.nca.source import NcaSource
from workloads.upstreams.nca.static import StaticSource
from workloads.upstreams.nca.unigram import UnigramSource

CONTROLS = {p.__name__.rpartition(".")[2]: p.PLUGIN for p in (nca_shuffled, nca_unigram, nca_static, nca_one_rule)}
EACH = pytest.mark.parametrize("control", CONTROLS)
LENGTH = 250
"""Not a multiple of the frame's 18 tokens, so that the last frame is cut."""


def made(
    control: str, banks: list[Path], *, stream: str = "train", seed: int = SEED, length: int = LENGTH, **fields: object
) -> Any:
    plugin = CONTROLS[control]
    small_law = {"law_sequences": 40} if control == "nca_unigram" else {}
    science = plugin.science.model_validate({"states": 4, "grid": {"height": 8, "width": 8}, **small_law, **fields})
    return plugin.load()(science, seed=seed, stream=stream, sequence_length=length,
                         banks=banks if plugin.bank else [])


def plain(banks: list[Path], **fields: object) -> NcaSource:
    rules = open_bank(banks, bank_fields(small()), "train")
    return NcaSource(small(**fields), rules, seed=SEED, stream="train", sequence_length=LENGTH)


def frames_of(source: SequenceSource, count: int) -> npt.NDArray[np.int64]:
    """Return the whole frames (B, F, cells) of the first sequences, read off their tokens."""
    tokens = source.sequences(np.arange(count)).tokens_BT
    whole = tokens.shape[1] // 18
    patches = tokens[:, : whole * 18].reshape(count, whole, 18)[..., 1:-1].reshape(count, whole, 4, 4).astype(np.int64)
    grid = np.empty((count, whole, 8, 8), np.int64)
    for position in range(4):
        grid[:, :, position // 2 :: 2, position % 2 :: 2] = patches // 4**position % 4
    return grid.reshape(count, whole, 64)


@EACH
def test_a_control_has_the_format_of_nca(control: str, small_banks: list[Path]) -> None:
    reference_batch = plain(small_banks).sequences(np.arange(40))
    source = made(control, small_banks)
    batch = source.sequences(np.arange(40))
    delimiter = reference_batch.tokens_BT >= 256
    np.testing.assert_array_equal(batch.tokens_BT[delimiter], reference_batch.tokens_BT[delimiter])
    np.testing.assert_array_equal(batch.target_BT, reference_batch.target_BT)
    assert batch.tokens_BT.dtype == np.int32 and batch.tokens_BT[~delimiter].max() < 256
    assert (source.vocabulary, source.period, source.sequence_length) == (258, 18, LENGTH)
    with_delimiters = made(control, small_banks, delimiter_loss=True).sequences(np.arange(1)).target_BT
    assert with_delimiters.sum() == LENGTH - 18


@EACH
def test_a_sequence_of_a_control_is_the_same_in_any_batch(control: str, small_banks: list[Path]) -> None:
    source = made(control, small_banks)
    whole = source.sequences(np.arange(40)).tokens_BT
    np.testing.assert_array_equal(source.sequences(np.array([17, 3])).tokens_BT, whole[[17, 3]])
    assert len(np.unique(whole, axis=0)) == 40


@pytest.mark.parametrize("control, recorded", [
    ("nca_shuffled", "d4f8d252b3d748b8"), ("nca_unigram", "e2866a285ea537b6"),
    ("nca_static", "d6e4b545f9194962"), ("nca_one_rule", "df3d5dd548503165"),
])
def test_the_controls_are_those_of_the_first_version(control: str, recorded: str, small_banks: list[Path]) -> None:
    tokens = made(control, small_banks, length=256).sequences(np.arange(8)).tokens_BT.astype("<i4")
    assert hashlib.sha256(tokens.tobytes()).hexdigest()[:16] == recorded


def test_shuffling_permutes_the_patches_of_each_sequence(small_banks: list[Path]) -> None:
    index = np.arange(40)
    tokens, shuffled = (s.sequences(index).tokens_BT for s in (plain(small_banks), made("nca_shuffled", small_banks)))
    np.testing.assert_array_equal(np.sort(shuffled, axis=1), np.sort(tokens, axis=1))
    assert (shuffled != tokens).any(axis=1).all()


def test_the_permutation_differs_from_seed_to_seed(small_banks: list[Path]) -> None:
    one, other = (made("nca_shuffled", small_banks, seed=s, length=36).sequences(np.arange(4)).tokens_BT
                  for s in (SEED, SEED + 1))
    assert not (one == other).all(axis=1).any()


def test_unigram_tokens_have_the_pooled_law_in_both_streams(small_banks: list[Path]) -> None:
    pool = plain(small_banks).sequences(np.arange(40)).tokens_BT
    law = np.bincount(pool[pool < 256], minlength=256) / (pool < 256).sum()
    for stream in ("train", "held_out"):
        tokens = made("nca_unigram", small_banks, stream=stream).sequences(np.arange(2_000)).tokens_BT
        counts = np.bincount(tokens[tokens < 256], minlength=256)
        assert counts[law == 0].sum() == 0
        expected = (law * counts.sum())[law > 0]
        square, degrees = ((counts[law > 0] - expected) ** 2 / expected).sum(), len(expected) - 1
        assert abs(square - degrees) < 4 * math.sqrt(2 * degrees)
        surprise = -np.log(law[tokens[tokens < 256]])
        entropy = -(law[law > 0] * np.log(law[law > 0])).sum()
        assert abs(surprise.mean() - entropy) < 4 * surprise.std() / math.sqrt(surprise.size)


def test_unigram_tokens_do_not_depend_on_each_other(small_banks: list[Path]) -> None:
    """Equal tokens at a distance are as frequent as in independent draws, within a sequence and across streams."""
    source = made("nca_unigram", small_banks)
    law = np.bincount(source.pool_L, minlength=256) / len(source.pool_L)
    chance = (law**2).sum()
    tokens = source.sequences(np.arange(2_000)).tokens_BT
    other = made("nca_unigram", small_banks, stream="held_out").sequences(np.arange(2_000)).tokens_BT
    for left, right in ((tokens[:, :-1], tokens[:, 1:]), (tokens[:, :-18], tokens[:, 18:]), (tokens, other)):
        both = (left < 256) & (right < 256)
        same = (left == right)[both]
        # pairs overlap, which raises the variance of their mean to at most three times that of single draws
        assert abs(same.mean() - chance) < 4 * math.sqrt(3 * chance * (1 - chance) / same.size)
    own = plain(small_banks).sequences(np.arange(40)).tokens_BT
    assert (own[:, 18:] == own[:, :-18]).mean() > 1.5 * chance  # those of nca do depend on each other


def test_unigram_reads_the_rules_of_its_law_however_many_sequences_train() -> None:
    science = nca_unigram.NcaUnigramScience
    assert [nca_unigram.rules_needed(science(), n) for n in (0, 1, 10**6)] == [512] * 3
    reused = science.model_validate({"rules": {"unique": 16}, "law_sequences": 100})
    assert nca_unigram.rules_needed(reused, 10**6) == 16


def test_static_frames_all_equal_the_initial_grid_of_nca(small_banks: list[Path]) -> None:
    frames = frames_of(made("nca_static", []), 40)
    np.testing.assert_array_equal(frames, np.repeat(frames[:, :1], frames.shape[1], axis=1))
    initial = frames_of(plain(small_banks, burn_in=0), 40)
    np.testing.assert_array_equal(frames[:, 0], initial[:, 0])
    assert (initial[:, 1] != initial[:, 0]).any(axis=1).mean() > 0.9  # where a rule runs, the grid does change


@pytest.mark.parametrize("law", ["categorical", "uniform"])
def test_numpy_and_numba_make_the_same_static_and_unigram_sequences(law: str) -> None:
    science, index = small(initial_grid=law), np.array([0, 5, 2**40])
    about: dict[str, Any] = {"seed": 3, "stream": "train", "sequence_length": 40}
    pool = np.arange(256, dtype=np.int32)
    pairs = [(StaticSource(science, **about), StaticSource(science, **about, backend=reference)),
             (UnigramSource(science, pool, **about), UnigramSource(science, pool, **about, backend=reference))]
    for fast, slow in pairs:
        np.testing.assert_array_equal(fast.sequences(index).tokens_BT, slow.sequences(index).tokens_BT)


@pytest.mark.parametrize("stream", ["train", "held_out"])
def test_every_sequence_of_both_streams_follows_the_one_rule(stream: str, small_banks: list[Path]) -> None:
    rules, window = open_bank(small_banks, bank_fields(small()), "train"), neighbours(bank_fields(small()))
    frames = frames_of(made("nca_one_rule", small_banks, stream=stream), 20)
    before, after = frames[:, :-1].reshape(-1, 64), frames[:, 1:].reshape(-1, 64)

    def followed(rule: int) -> float:
        logits = reference.logits(rules.take(np.full(len(before), rule)), before, window)
        taken = np.take_along_axis(logits, after[..., None], axis=2)[..., 0]
        likely = (logits.max(axis=2) - taken) * 2.0**-40 < 34 * 1e-4  # what the temperature can draw
        return float(likely.mean())

    assert followed(0) == 1.0
    assert max(followed(rule) for rule in range(1, 10)) < 0.99
    assert len(np.unique(frames[:, 0], axis=0)) == 20


def test_the_streams_of_the_one_rule_start_from_other_grids(small_banks: list[Path]) -> None:
    train, held_out = (frames_of(made("nca_one_rule", small_banks, stream=s), 20) for s in ("train", "held_out"))
    assert not (train[:, 0] == held_out[:, 0]).all(axis=1).any()


def test_one_rule_refuses_more_of_them_and_overrides_the_protocol() -> None:
    with pytest.raises(ValidationError, match="nca_one_rule has 1 rule: leave the field out"):
        nca_one_rule.NcaOneRuleScience.model_validate({"rules": {"unique": 5}})
    assert {p["rules.unique"] for p in nca_one_rule.PLUGIN.protocols.values()} == {1}
    assert nca.PLUGIN.protocols["release"]["rules.unique"] == 16_000
    assert nca_one_rule.PLUGIN.rules_needed is not None
    assert nca_one_rule.PLUGIN.rules_needed(nca_one_rule.NcaOneRuleScience(), 10**6) == 1


@EACH
def test_a_control_is_one_and_has_no_axis(control: str) -> None:
    plugin = CONTROLS[control]
    assert plugin.control and plugin.inherits == "nca" and not plugin.axes
    assert plugin.bank is None or plugin.bank_owner == "nca"


@pytest.mark.parametrize("control", ["nca_unigram", "nca_one_rule"])
def test_a_control_of_the_training_bank_refuses_another_or_none(control: str, small_banks: list[Path]) -> None:
    with pytest.raises(UsageError, match="no bank folder was given"):
        made(control, [])
    with pytest.raises(RecordError, match="temperature"):
        made(control, small_banks, temperature=0.5)


def test_static_refuses_a_bank(small_banks: list[Path]) -> None:
    with pytest.raises(UsageError, match="nca_static reads no rule bank"):
        nca_static.PLUGIN.load()(nca_static.NcaStaticScience(), seed=0, stream="train", sequence_length=38,
                                 banks=small_banks)
