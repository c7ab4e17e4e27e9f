"""Sinks: what TensorBoard and Weights & Biases read back is what the records say, once, however often it is sent."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import sinks
from analysis.load import TRAINING_ROLES, read_plan
from analysis.sink import Sink, send
from sweeps.errors import EnvironmentError_, UsageError
from sweeps.language.manifest import PlanTrial
from sweeps.store import records
from sweeps.store.layout import Layout
from tests.analysis.conftest import ARMS, SCRATCH, SweepBuilder

Read = dict[str, list[tuple[int, float]]]
"""Name -> (tokens, value), as a reader of the other program gives them."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return SweepBuilder(tmp_path / "store", arms=(SCRATCH, ARMS[-1]), domains=("web",), seeds=1).build()


def recorded(root: Path, trial: PlanTrial) -> Read:
    """What the records say of a trial, read without the sink's code."""
    found: Read = {}
    for step in trial.path:
        stage = Layout(root).stage(step.kind, step.fingerprint)
        result = records.read_result(stage)
        if step.role in TRAINING_ROLES and result is not None:
            for row in records.own_rows(stage.attempt(result.attempt)):
                for name, value in row.values.items():
                    found.setdefault(f"{step.role}/{row.kind}/{name}", []).append((row.tokens, value))
        elif result is not None:
            for name, value in result.scores.items():
                found.setdefault(f"{step.role}/{name}", []).append((trial.pretrain_tokens, value))
    return found


def same(one: Read, other: Read) -> bool:
    """Equal in fp32, which is what TensorBoard keeps."""
    return one.keys() == other.keys() and all(
        len(one[k]) == len(other[k]) and all(
            s == t and math.isclose(a, b, rel_tol=1e-6)
            for (s, a), (t, b) in zip(sorted(one[k]), sorted(other[k]), strict=True))
        for k in one)


def from_tensorboard(folder: Path) -> Read:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def tensorboard() -> Sink:
    pytest.importorskip("tensorboardX")
    return sinks.find("tensorboard")


def test_tensorboard_reads_what_the_records_say(root: Path, tmp_path: Path, tensorboard: Sink) -> None:
    plan, out = read_plan(root, "demo"), tmp_path / "out"
    sent = send(root, plan, tensorboard, out)
    assert sent.trials == len(plan.trials) == 2
    for trial in plan.trials:
        found = from_tensorboard(out / trial.id)
        assert same(found, recorded(root, trial)) and "trunk/validation/loss" in found and "end/end/loss" in found
        assert sum(map(len, found.values())) > 20
    assert sum(len(v) for t in plan.trials for v in recorded(root, t).values()) == sent.values


def test_sending_again_changes_nothing(root: Path, tmp_path: Path, tensorboard: Sink) -> None:
    plan, out = read_plan(root, "demo"), tmp_path / "out"
    send(root, plan, tensorboard, out)
    before = files_of(out)
    again = send(root, plan, tensorboard, out)
    assert (again.trials, again.values) == (0, 0) and files_of(out) == before


def test_what_a_running_stage_adds_is_sent_once_also_where_an_attempt_repeats_it(
    tmp_path: Path, tensorboard: Sink
) -> None:
    """Rows beyond an interrupted attempt's checkpoint are made again by the next one: the same ones."""
    root = SweepBuilder(tmp_path / "store", arms=(SCRATCH,), domains=("web",), seeds=1,
                        fate=lambda trial, role, tokens: "absent" if role == "trunk" else "done").build()
    plan, out = read_plan(root, "demo"), tmp_path / "out"
    step = next(s for s in plan.trials[0].path if s.role == "trunk")
    stage = Layout(root).stage(step.kind, step.fingerprint)

    def row(attempt: records.Attempt, tokens: int, speed: float) -> None:
        attempt.row(tokens=tokens, kind="train", values={"loss": 5 - tokens / 1000, "tokens_per_second": speed})

    first = records.open_attempt(stage, {"started": "2030-01-01T00:00:00+00:00"})
    for tokens in (100, 200, 300):
        row(first, tokens, 1.0)
    first.close()
    send(root, plan, tensorboard, out)
    second = records.open_attempt(stage, {})
    second.set_parent(records.Parent(kind=stage.kind, fingerprint=stage.fingerprint, attempt=1, tokens=200))
    row(second, 300, 2.0)
    assert send(root, plan, tensorboard, out).values == 0
    row(second, 400, 2.0)
    second.close()
    assert send(root, plan, tensorboard, out).values == 2
    found = from_tensorboard(out / plan.trials[0].id)
    assert [(t, round(v, 4)) for t, v in found["trunk/train/loss"]] == [(100, 4.9), (200, 4.8), (300, 4.7), (400, 4.6)]
    assert [v for _, v in found["trunk/train/tokens_per_second"]] == [1.0, 1.0, 1.0, 2.0]
    assert len(list((out / plan.trials[0].id).iterdir())) == 2


@pytest.mark.parametrize("at", ["sweeps.store.files.replace", "pathlib.Path.rename"], ids=["note", "move"])
def test_a_call_that_was_killed_is_finished_by_the_next_one(
    root: Path, tmp_path: Path, tensorboard: Sink, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    plan, out = read_plan(root, "demo"), tmp_path / "out"
    with monkeypatch.context() as patch:
        def killed(*_: Any) -> None:
            raise KeyboardInterrupt
        patch.setattr(at, killed)
        with pytest.raises(KeyboardInterrupt):
            send(root, plan, tensorboard, out)
    send(root, plan, tensorboard, out)
    for trial in plan.trials:
        assert same(from_tensorboard(out / trial.id), recorded(root, trial))
    assert not list(out.rglob("*.part"))


def test_an_unknown_sink_and_a_missing_package_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="known: tensorboard, wandb. Did you mean 'tensorboard'"):
        sinks.find("tensorbord")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentError_, match=r"pip install 'prepretraining-orchestrator\[wandb\]'"):
        sinks.find("wandb")


def wandb_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a .wandb file: a header of 7 bytes, then LevelDB's log format in blocks of 32 KiB."""
    data, at, whole = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if (left := 32_768 - at % 32_768) < 7:  # too little for a header: padding
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7: at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def from_wandb(folder: Path) -> tuple[dict[str, str], Read]:
    """Read what an offline run holds, with the package's own messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    [path] = folder.glob("run-*.wandb")
    about, found = dict[str, str](), Read()
    for data in wandb_records(path):
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "run":
            about = {"project": record.run.project, "id": record.run.run_id, "name": record.run.display_name}
        if record.WhichOneof("record_type") == "history":
            row = {i.key or "/".join(i.nested_key): float(i.value_json) for i in record.history.item}
            for name, value in row.items():
                if name != "tokens" and not name.startswith("_"):
                    found.setdefault(name, []).append((int(row["tokens"]), value))
    return about, found


@pytest.mark.slow
def test_an_offline_run_of_weights_and_biases_holds_what_the_records_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    root = SweepBuilder(tmp_path / "store", arms=(SCRATCH,), domains=("web",), seeds=1).build()
    plan, out, sink = read_plan(root, "demo"), tmp_path / "out", sinks.find("wandb")
    sent = send(root, plan, sink, out)
    [folder] = (out / "wandb").iterdir()
    about, found = from_wandb(folder)
    assert folder.name.startswith("offline-run-")
    assert about["project"] == "demo" and about["name"] == plan.trials[0].id
    assert same(found, recorded(root, plan.trials[0])) and sent.values == sum(map(len, found.values()))
    assert send(root, plan, sink, out).values == 0 and list((out / "wandb").iterdir()) == [folder]
