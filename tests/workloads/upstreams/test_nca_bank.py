"""Banks: acceptance as published, independent blocks, refusals."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sweeps.errors import EnvironmentError_, RecordError, UsageError
from tests.workloads.upstreams.conftest import SEED, never, small
from workloads.contract import Stopped
from workloads.upstreams import nca
from workloads.upstreams.nca import bank as bank_module
from workloads.upstreams.nca import complexity, kernels, reference
from workloads.upstreams.nca.bank import Search, find_rules, make_bank
from workloads.upstreams.nca.complexity import Band, ceiling, gzip_lengths, wilson
from workloads.upstreams.nca.open_bank import open_bank
from workloads.upstreams.nca.science import NcaBankScience, NcaScience, bank_fields
from workloads.upstreams.nca.source import make_source

SAMPLE = 2000


def banded(band: str, scale: str, **fields: object) -> NcaBankScience:
    return NcaBankScience.model_validate({"complexity": {"band": band, "scale": scale}, **fields})


@pytest.fixture(scope="module")
def scores() -> np.ndarray:
    candidates = np.arange(SAMPLE)
    return Search(bank=NcaBankScience(), seed=SEED, stream="train").score(np.zeros(SAMPLE, np.int64), candidates)[1]


@pytest.mark.parametrize("band, scale, published", [
    ("20-30", "raw", 0.064), ("30-40", "raw", 0.093), ("40-50", "raw", 0.177), ("50-100", "raw", 0.466),
    ("30-45", "normalized", 0.067), ("45-60", "normalized", 0.094), ("60-75", "normalized", 0.175),
    ("75-100", "normalized", 0.463),
])
def test_each_band_accepts_the_published_share(scores: np.ndarray, band: str, scale: str, published: float) -> None:
    share = Band.of(banded(band, scale)).accepts(scores).mean()
    error = np.sqrt(published * (1 - published) * (1 / SAMPLE + 1 / 10_000))
    assert abs(share - published) < 4 * error


@pytest.mark.parametrize("states, raw", [(2, 0.25), (3, 0.35), (4, 0.43), (6, 0.56), (8, 0.62), (10, 0.67),
                                         (12, 0.70), (15, 0.73)])
def test_the_noise_ceiling_is_the_published_one(states: int, raw: float) -> None:
    assert ceiling(NcaBankScience(states=states)) == pytest.approx(raw, abs=0.006)


def test_a_score_is_the_size_of_a_gzip_file() -> None:
    tokens = np.random.default_rng(0).integers(0, 10_000, (3, 10, 36)).astype(np.int32)
    expected = [len(gzip.compress(row.astype("<i4").tobytes(), 9, mtime=0)) for row in tokens]
    assert gzip_lengths(tokens).tolist() == expected


def test_a_band_is_open_at_both_ends() -> None:
    exact = np.array([[0.3], [432 / 1440], [0.3 + 1 / 1440], [0.4]])
    assert Band.of(banded("30-40", "raw")).accepts(exact).tolist() == [False, False, True, False]


def test_a_rule_does_not_depend_on_the_block_or_the_path_that_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = bank_fields(small())
    whole = find_rules(Search(bank=bank, seed=1, stream="train", backend=kernels), 0, 12, never)  # type: ignore[arg-type]
    monkeypatch.setattr(bank_module, "LANES", 3)
    part = find_rules(Search(bank=bank, seed=1, stream="train", backend=reference), 5, 4, never)  # type: ignore[arg-type]
    np.testing.assert_array_equal(part.rules.tables_BKNC, whole.rules.tables_BKNC[5:9])
    np.testing.assert_array_equal(part.rules.outputs_BCN, whole.rules.outputs_BCN[5:9])
    np.testing.assert_array_equal(part.candidate_B, whole.candidate_B[5:9])
    np.testing.assert_array_equal(part.score_BK, whole.score_BK[5:9])


@pytest.mark.parametrize("threads", [2, 5])
def test_a_bank_does_not_depend_on_the_threads_that_look_for_it(threads: int) -> None:
    bank = bank_fields(small())
    one = find_rules(Search(bank=bank, seed=1, stream="train", threads=1), 0, 9, never)
    many = find_rules(Search(bank=bank, seed=1, stream="train", threads=threads), 0, 9, never)
    np.testing.assert_array_equal(many.rules.tables_BKNC, one.rules.tables_BKNC)
    np.testing.assert_array_equal(many.rules.outputs_BCN, one.rules.outputs_BCN)
    np.testing.assert_array_equal(many.candidate_B, one.candidate_B)
    np.testing.assert_array_equal(many.score_BK, one.score_BK)


def test_streams_seeds_and_rules_share_nothing() -> None:
    bank = bank_fields(small())
    tables = [find_rules(Search(bank=bank, seed=seed, stream=stream), 0, 3, never).rules.tables_BKNC
              for seed, stream in ((1, "train"), (2, "train"), (1, "held_out"))]
    rows = np.concatenate(tables).reshape(9, -1)
    assert len(np.unique(rows, axis=0)) == 9


def test_trials_average_several_initial_grids_and_keep_every_score() -> None:
    bank = NcaBankScience.model_validate(
        {"states": 4, "grid": {"height": 8, "width": 8}, "complexity": {"trials": 3}}
    )
    block = find_rules(Search(bank=bank, seed=1, stream="train"), 0, 5, never)
    assert block.score_BK.shape == (5, 3)
    assert Band.of(bank).accepts(block.score_BK).all()
    assert (np.ptp(block.score_BK, axis=1) > 0).any()


def test_a_bank_reports_its_acceptance(tmp_path: Path) -> None:
    told: list[int] = []
    scores = make_bank(bank_fields(small()), seed=1, stream="train", first=0, count=20, folder=tmp_path / "new",
                       progress=lambda done: bool(told.append(done)))
    assert scores["accepted"] == 20 and scores["acceptance"] == 20 / scores["candidates"]
    assert scores["acceptance_low"] < scores["acceptance"] < scores["acceptance_high"]
    assert told == sorted(told) and told[-1] == 20


def test_wilson_agrees_with_a_known_interval() -> None:
    assert wilson(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)


def test_a_request_to_stop_stops(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        make_bank(bank_fields(small()), seed=1, stream="train", first=0, count=500, folder=tmp_path,
                  progress=lambda done: True)


@pytest.mark.parametrize("bank, words", [
    (banded("25-40", "raw", states=2), ["25-40 (raw)", "n = 2", "ceiling is 0.246"]),
    (banded("0-1", "raw"), ["0-1 (raw)", "none of", "ceiling is 0.669"]),
    (banded("70-100", "raw"), ["ceiling is 0.669"]),
])
def test_an_impossible_band_is_refused_with_the_ceiling(bank: NcaBankScience, words: list[str]) -> None:
    [reason] = nca.PLUGIN.pilot(bank)  # type: ignore[misc]
    assert all(word in reason for word in words), reason


def test_possible_bands_pass_the_pilot_even_where_they_are_narrow() -> None:
    for band, scale in (("30-45", "normalized"), ("75-100", "normalized"), ("33-33.2", "raw")):
        assert nca.pilot(banded(band, scale)) == []
    assert nca.pilot(banded("33-33.02", "raw"))  # no whole number of bytes lies inside


def test_a_band_that_slipped_past_the_pilot_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_module, "MAX_CANDIDATES", 5)
    search = Search(bank=banded("99-100", "raw"), seed=1, stream="train")
    with pytest.raises(UsageError, match=r"none of 5 .* ceiling is 0.669"):
        find_rules(search, 0, 2, never)


def test_another_compressor_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(complexity, "zlib_lengths", lambda: (1, 2, 3))
    with pytest.raises(EnvironmentError_, match="zlib-ng"):
        make_bank(bank_fields(small()), seed=1, stream="train", first=0, count=1, folder=tmp_path, progress=never)


def test_the_blocks_that_a_decay_branch_reads_are_enough(small_banks: list[Path]) -> None:
    whole = make_source(small(), seed=SEED, stream="train", sequence_length=64, banks=small_banks)
    last = make_source(small(), seed=SEED, stream="train", sequence_length=64, banks=small_banks[1:])
    index = np.array([39, 25, 30])
    assert np.array_equal(whole.sequences(index).tokens_BT, last.sequences(index).tokens_BT)
    with pytest.raises(UsageError, match="the bank holds 25 to 39"):
        last.sequences(np.array([24]))


def test_a_source_refuses_what_its_bank_does_not_hold(small_banks: list[Path]) -> None:
    def make(science: NcaScience, banks: list[Path], stream: str = "train") -> None:
        source = make_source(science, seed=SEED, stream=stream, sequence_length=64, banks=banks)
        source.sequences(np.array([39]))

    make(small(), small_banks)
    with pytest.raises(UsageError, match="no bank folder"):
        make(small(), [])
    with pytest.raises(UsageError, match="rules 39 to 39 are needed and the bank holds 0 to 24"):
        make(small(), small_banks[:1])
    with pytest.raises(RecordError, match="first is 0, expected 40"):
        make(small(), small_banks[::-1])
    with pytest.raises(RecordError, match="stream is 'train', expected 'held_out'"):
        make(small(), small_banks, "held_out")
    with pytest.raises(RecordError, match="bank is"):
        make(small(temperature=0.5), small_banks)


def test_a_damaged_block_is_named(small_banks: list[Path], tmp_path: Path) -> None:
    block = tmp_path / "block"
    shutil.copytree(small_banks[0], block)
    (block / "tables.npy").write_bytes((block / "tables.npy").read_bytes()[:500])
    with pytest.raises(RecordError, match=r"tables\.npy cannot be read"):
        open_bank([block], bank_fields(small()), "train")
    shutil.copy(small_banks[0] / "outputs.npy", block / "tables.npy")
    with pytest.raises(RecordError, match=r"tables\.npy is int32"):
        open_bank([block], bank_fields(small()), "train")
    (block / "bank.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(RecordError, match="schema"):
        open_bank([block], bank_fields(small()), "train")
