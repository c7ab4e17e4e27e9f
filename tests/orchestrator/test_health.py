"""What `status` and `why` say of how training fares, from records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.commands.status import text
from orchestrator.health import STRAGGLER, lines, notices, rows_of, speed_now, speed_of_all, straggler, told
from orchestrator.plan import Planned
from orchestrator.watch import SweepStatus
from sweeps.store import files, records
from sweeps.store.layout import AttemptFolder, Layout
from tests.orchestrator.verb_stores import answer, called, folder_of, node

GPU = {"tokens_per_second": 51_234.5, "step_seconds_p50": 0.0512, "step_seconds_p90": 0.0601,
       "step_seconds_p99": 0.08034, "data_wait_share": 0.0091, "checkpoint_stall_seconds": 1.25, "mfu": 0.4123,
       "matmul_share": 0.4831}
CPU = {name: value for name, value in GPU.items() if name not in ("mfu", "matmul_share")}


def attempt(root: Path, *rows: Mapping[str, float], spikes: int = 0) -> AttemptFolder:
    """An attempt with these training rows, and then spikes."""
    made = records.open_attempt(Layout(root).stage("pretrain", "x"), {})
    for number, values in enumerate(rows, start=1):
        made.row(tokens=100 * number, kind="train", values={"loss": 4.0, **values})
    for number in range(spikes):
        made.row(tokens=100 * len(rows), kind="spike",
                 values={"update": 50.0 + number, "loss": 9.5, "limit": 4.5, "updates": 1.0})
    made.close()
    return made.folder


def slow(rank: float, factor: float) -> dict[str, float]:
    return {"slowest_rank": rank, "slowest_rank_factor": factor}


@pytest.mark.parametrize(("rows", "found"), [
    ([slow(3, 1.5)] * 2, None),
    ([slow(3, 1.5)] * 3, (3, 1.5)),
    ([slow(3, 1.0), *[slow(1, STRAGGLER)] * 3], (1, STRAGGLER)),
    ([slow(3, 1.5), slow(2, 1.5), slow(3, 1.5)], None),
    ([slow(3, 1.5), slow(3, 1.1), slow(3, 1.5)], None),
    ([{"loss": 1.0}] * 5, None),
])
def test_a_straggler_is_one_rank_in_three_rows(rows: list[dict[str, float]], found: tuple[int, float] | None) -> None:
    assert straggler(rows) == found


def test_notices_tell_spikes_stragglers_and_mixed_cards(tmp_path: Path) -> None:
    folder = attempt(tmp_path, *[slow(3, 1.5)] * 3, spikes=2)
    assert list(notices(folder, rows_of(folder))) == [
        "2 loss spikes, the last at update 51: 9.5, limit 4.5",
        "straggler: rank 3 computes 1.50 times as long as the others"]
    files.create(folder.cards, files.to_json({"devices": ["NVIDIA H200", "NVIDIA H200", "NVIDIA H100 PCIe"]}))
    assert list(notices(folder, rows_of(folder)))[2] == "mixed GPUs: 2 NVIDIA H200, 1 NVIDIA H100 PCIe"
    plain = attempt(tmp_path / "other", {"loss": 1.0})
    files.create(plain.cards, files.to_json({"devices": ["NVIDIA H200"] * 8}))
    assert list(told(plain)) == []


def test_speed_is_the_newest_row_s_with_the_stall_of_all(tmp_path: Path) -> None:
    found = speed_now(rows_of(attempt(tmp_path, {**CPU, "tokens_per_second": 1.0}, CPU)))
    assert found["tokens_per_second"] == 51_234.5 and found["checkpoint_stall_seconds"] == 2.5
    assert found["mfu"] is None and found["matmul_share"] is None
    older = speed_now(rows_of(attempt(tmp_path / "older", {"tokens_per_second": 20.0})))
    assert older["tokens_per_second"] == 20.0 and set(older.values()) == {20.0, None}
    assert list(lines(older)) == [] and list(lines(speed_now([]))) == []


def test_finished_stages_are_told_by_medians(tmp_path: Path) -> None:
    found = speed_of_all([{"mfu": 0.2, **CPU}, {"tokens_per_second": 5.0}, {**CPU, "tokens_per_second": "nan"}])
    assert found["mfu"] == 0.2 and found["step_seconds_p50"] == 0.0512 and found["checkpoint_stall_seconds"] == 2.5
    assert all(value is None for value in speed_of_all([]).values())


@pytest.mark.parametrize("speed", [GPU, {**CPU, "mfu": None, "matmul_share": None},
                                   {**GPU, "matmul_share": None, "tokens_per_second": 12_345_678.0,
                                    "checkpoint_stall_seconds": 12345.6}])
def test_status_shows_speed_in_80_columns(speed: dict[str, Any]) -> None:
    running = {"label": "a" * 60, "tokens": 9_999_999, "fingerprint": "f", "loss": 4.0, **speed, "notices": ["look"]}
    shown = text(SweepStatus(
        name="t", question="", controlled="", exit_code=None, trials=Counter(), stages=Counter(), running=(running,),
        failed=(), lost_tokens=(), asked=Counter(), simulated=False, budget=None, restarts={},
        speed={"prepretrain": {"stages": 63, **speed}}))
    listed = shown.splitlines()
    assert "          step 51.2, 60.1, 80.3 ms (p50, p90, p99)  data 0.91 %" in shown and "          look" in listed
    assert any(line.startswith("  speed   prepretrain, median of 63: ") for line in listed)
    assert ("MFU 41.2 % of the bf16 specification" in shown) == (speed["mfu"] is not None)
    assert ("48.3 % of a measured product" in shown) == (speed["matmul_share"] is not None)
    assert all(len(line) <= 82 for line in listed if not line.startswith("  running")), listed


def test_status_tells_the_speed_of_every_finished_training_stage(
    finished_plan: Planned, capsys: pytest.CaptureFixture[str]
) -> None:
    root = finished_plan.layout.root
    for found in finished_plan.graph.nodes.values():
        if found.spec.kind == "pretrain":
            result = folder_of(finished_plan, found).result
            raw = files.read_json(result)
            raw["scores"] |= CPU
            files.replace(result, files.seal(raw))
    sweep = answer(capsys, "status", "--root", root)["sweeps"][0]
    speed = sweep["speed"]["pretrain"]
    assert speed["step_seconds_p99"] == 0.08034 and speed["mfu"] is None and speed["stages"] > 1
    assert speed["checkpoint_stall_seconds"] == pytest.approx(1.25 * speed["stages"])
    assert "51,234 tokens/s" in called(capsys, "status", "--root", root)[1]


def test_why_says_at_which_update_a_stage_diverged(
    finished_plan: Planned, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = folder_of(finished_plan, node(finished_plan, "pretrain"))
    said = "loss nan at update 27, sequences 104 to 107"
    files.create(stage.attempt(1).divergence, files.to_json({"text": said, "update": 27}))
    _, shown, _ = called(capsys, "why", stage.fingerprint, "--root", finished_plan.layout.root)
    assert f"  {said}; details: {stage.attempt(1).divergence}" in shown.splitlines()
