"""What a run measures of itself, with a clock of the test's own; and that measuring waits for no device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sweeps.store import records
from sweeps.store.layout import AttemptFolder, Layout
from tests.workloads.training.fakes import FakeContext, corpus_stage, science
from workloads.training import cards, runs, spans, telemetry
from workloads.training.cards import Cards, card_of, matmul_flops
from workloads.training.process import Place
from workloads.training.spans import Spans
from workloads.training.telemetry import Telemetry, slowest

CPU = Place(rank=0, world=1, device=torch.device("cpu"))


class Clock:
    """Stands in for the module `time`."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(telemetry, "time", made)
    monkeypatch.setattr(spans, "time", made)
    return made


def steps(measured: Telemetry, clock: Clock, *seconds: float) -> None:
    """Make steps of this length, a tenth of it for the data."""
    for length in seconds:
        with measured.fetching():
            clock.now += 0.1 * length
        clock.now += 0.9 * length
        measured.step()


def test_evaluations_and_checkpoints_are_no_part_of_training_time(clock: Clock) -> None:
    measured = Telemetry(CPU, Cards(devices=()), update_tokens=100, flops_per_token=6.0)
    clock.now += 50  # loading
    measured.begin()
    steps(measured, clock, 1, 1, 1)
    with measured.standing():
        clock.now += 1000
    steps(measured, clock, 1, 6)
    row = measured.row()
    assert row == pytest.approx({
        "tokens_per_second": 50.0, "data_wait_share": 0.1, "checkpoint_stall_seconds": 0.0, "step_seconds_p50": 1.0,
        "step_seconds_p90": 4.0, "step_seconds_p99": 5.8})
    with measured.saving():
        clock.now += 7
    steps(measured, clock, 2)
    assert measured.row() == pytest.approx({
        "tokens_per_second": 50.0, "data_wait_share": 0.1, "checkpoint_stall_seconds": 7.0, "step_seconds_p50": 2.0,
        "step_seconds_p90": 2.0, "step_seconds_p99": 2.0})
    measured.end()
    with measured.saving():
        clock.now += 3
    clock.now += 1000  # weights
    scores = measured.scores()
    assert scores["checkpoint_stall_seconds"] == 10.0 and scores["step_seconds_p50"] == pytest.approx(1.0)
    assert scores["tokens_per_second"] == pytest.approx(600 / 12)
    assert scores.keys() | row.keys() <= records.MEASURED


def test_an_attempt_without_a_step_has_no_percentiles(clock: Clock) -> None:
    measured = Telemetry(CPU, Cards(devices=()), update_tokens=100, flops_per_token=6.0)
    measured.begin()
    measured.end()
    assert measured.scores() == {"tokens_per_second": 0.0, "data_wait_share": 0.0, "checkpoint_stall_seconds": 0.0}


def test_mfu_is_over_what_all_cards_can_do(clock: Clock) -> None:
    two = Cards(devices=("NVIDIA H200", "NVIDIA H100 PCIe"), matmul=(700e12, 600e12))
    measured = Telemetry(CPU, two, update_tokens=1000, flops_per_token=1e12)
    measured.begin()
    steps(measured, clock, 2.0)
    row = measured.row()
    assert row["mfu"] == pytest.approx(500e12 / (989e12 + 756.5e12))
    assert row["matmul_share"] == pytest.approx(500e12 / 1300e12)
    assert {"mfu", "matmul_share"} <= records.MEASURED


@pytest.mark.parametrize(("device", "flops"), [
    ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H200", 989e12), ("NVIDIA GH200 480GB", 989e12),
    ("NVIDIA H100 PCIe", 756.5e12), ("NVIDIA H100 NVL", 835.5e12), ("NVIDIA H200 NVL", 835.5e12),
    ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA A100 80GB PCIe", 312e12), ("NVIDIA B200", 2250e12),
    ("NVIDIA L40S", 362e12), ("NVIDIA L40", None), ("NVIDIA GeForce RTX 3090", None), ("Tesla V100-SXM2-16GB", None),
])
def test_cards_are_known_by_what_their_driver_calls_them(device: str, flops: float | None) -> None:
    found = card_of(device)
    assert (found.flops if found else None) == flops
    assert found is None or found.source
    assert Cards(devices=(device, "NVIDIA H200")).specified_flops == (flops and flops + 989e12)


def test_no_card_no_share_and_no_file(tmp_path: Path) -> None:
    assert cards.cards_of(CPU) == Cards(devices=())
    assert Cards(devices=()).specified_flops is None and Cards(devices=("x",)).matmul_flops is None
    cards.record(Cards(devices=()), AttemptFolder(tmp_path))
    assert not list(tmp_path.iterdir())


def test_an_attempt_keeps_what_its_cards_can_do_and_where_that_is_written(tmp_path: Path) -> None:
    cards.record(Cards(devices=("NVIDIA H200", "strange"), matmul=(7e14, 1e14)), AttemptFolder(tmp_path))
    kept = json.loads((tmp_path / "cards.json").read_text())
    assert kept["devices"] == ["NVIDIA H200", "strange"] and kept["matmul_flops"] == [7e14, 1e14]
    assert kept["specified"]["strange"] is None and "data sheet" in kept["specified"]["NVIDIA H200"]["source"]


def test_the_product_that_is_measured_draws_nothing_from_the_training_s_generator() -> None:
    before = torch.get_rng_state()
    measured = matmul_flops(torch.device("cpu"), side=64)
    assert measured is not None and measured > 0
    assert torch.equal(before, torch.get_rng_state())


class Event:
    """A CUDA event that the device has passed `recorded` seconds after the first one."""

    recorded = waited = 0

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        Event.recorded += 1
        self.at = Event.recorded

    def synchronize(self) -> None:
        Event.waited += 1

    def elapsed_time(self, end: Event) -> float:
        return 1000.0 * (end.at - self.at)


def test_on_a_gpu_nothing_is_waited_for_before_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    times = Spans(torch.device("cuda"))
    for _ in range(3):
        times.begin()
        times.end()
    assert Event.waited == 0
    assert times.take() == [1.0, 1.0, 1.0] and Event.waited == 1
    assert times.take() == [] and Event.waited == 1


@given(st.lists(st.floats(0.001, 1e3), min_size=2, max_size=9))
def test_the_slowest_rank_is_compared_with_the_median_of_the_others(seconds: list[float]) -> None:
    found = slowest(seconds)
    rank = int(found["slowest_rank"])
    assert seconds[rank] == max(seconds) and found["slowest_rank_factor"] >= 1.0
    assert slowest([1.0, 3.0, 2.0]) == {"slowest_rank": 1.0, "slowest_rank_factor": 2.0}


def test_every_training_stage_records_its_speed(store: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    one = FakeContext("pretrain", "speed", science(45, decay_from=0), store, given={"corpus": [corpus_stage(store)]})
    scores: Any = runs.pretrain(one)
    row = next(r for r in one.rows if r.kind == "train").values
    for values in (row, scores):
        assert 0 < values["step_seconds_p50"] <= values["step_seconds_p90"] <= values["step_seconds_p99"]
        assert values["tokens_per_second"] > 0 and 0 < values["data_wait_share"] < 1
        assert "mfu" not in values and "slowest_rank" not in values
    assert scores["checkpoint_stall_seconds"] > 0 and scores["loss_spikes"] == 0
    assert not one.attempt.folder.cards.exists()
