"""The hang watchdog, with real processes: what hangs is dumped, named and killed; what is merely slow is not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sweeps.language.stage import Execution
from sweeps.store.files import read_json
from sweeps.store.layout import StageFolder
from sweeps.store.records import own_rows, read_result
from tests.workloads.tickets import make_ticket, spec, stage_folder, write_ticket
from workloads.listener import HEAD, MEDIANS, PAGE_BYTES, RING, Silence, median_step
from workloads.watchdog import PATIENCE, Pulse

FLOOR_S = 1.0
PLUGIN_TEXT = f'''
import ctypes
import subprocess
import time

from sweeps.language.plugins import Science, StageKind

FLOOR_S = {FLOOR_S}


class ToyScience(Science):
    act: str
    salt: int = 0


def run(context):
    act = context.science["toy"].act
    for _ in range(5):
        context.pulse.step()
        time.sleep(0.01)
    context.attempt.row(tokens=1, kind="train", values={{}})
    globals()[act](context)
    (context.attempt.artifacts / "text").write_text("hello")
    return {{}}


def sleeps(context):
    subprocess.Popen(["sleep", "3600"])
    time.sleep(3600)


def holds_the_interpreter_lock(context):
    while True:  # the signal that asks for the stacks wakes it
        ctypes.PyDLL(None).sleep(3600)


def goes_on(context):
    for _ in range(300):
        context.pulse.step()
        time.sleep(0.01)


def evaluates(context):
    for _ in range(10):
        context.pulse.beat()
        time.sleep(FLOOR_S / 5)


def asks_whether_to_stop(context):
    for _ in range(10):
        context.should_stop()
        time.sleep(FLOOR_S / 5)


def saves(context):
    context.pulse.slow()
    time.sleep(2 * FLOOR_S)


PLUGIN = StageKind(science=ToyScience, revision=1, implementation=":run")
'''


def written(root: Path, *acts: str) -> tuple[Path, list[StageFolder]]:
    """A ticket of stages that act like this."""
    specs = [spec(act, salt) for salt, act in enumerate(acts)]
    ticket = make_ticket(root, specs).model_copy(update={"execution": Execution(hang_floor_seconds=FLOOR_S)})
    (root / "plugins" / "toy.py").write_text(PLUGIN_TEXT)
    return write_ticket(ticket), [stage_folder(root, s) for s in specs]


@contextmanager
def job(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A job in a process group of its own, as executors start it; its log is beside the ticket."""
    with path.with_suffix(".err").open("wb") as err, subprocess.Popen(
        [sys.executable, "-m", "workloads.run", str(path)], stderr=err, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def living(group: int) -> list[str]:
    """The processes of a group that are no zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = path.read_text(errors="replace").rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            found.append(path.parent.name)
    return found


def until_it_acts(folder: StageFolder, process: subprocess.Popen[bytes]) -> None:
    """Wait for the row that a stage writes before it acts."""
    deadline = time.monotonic() + 30
    while not (folder.attempt(1).metrics.is_file() and list(own_rows(folder.attempt(1)))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def failure(folder: StageFolder, attempt: int = 1) -> dict[str, Any]:
    return read_json(folder.attempt(attempt).failure)


@pytest.mark.parametrize("act", ["sleeps", pytest.param("holds_the_interpreter_lock", marks=pytest.mark.slow)])
def test_a_stage_without_a_step_is_dumped_and_killed_with_what_it_started(tmp_path: Path, act: str) -> None:
    path, (folder, other) = written(tmp_path, act, "saves")
    with job(path) as process:
        assert process.wait(30) == -signal.SIGKILL
        time.sleep(0.1)
        assert living(process.pid) == []
    said = failure(folder)
    assert said["class"] == "HangError"
    assert "rank 0 of 1 showed no sign of life for" in said["message"]
    assert re.search(r"its median step takes 0\.\d+ s\)", said["message"])
    assert any(f"in {act}" in line for line in said["traceback"])
    log = path.with_suffix(".err").read_text()
    assert said["message"] in log
    assert f"in {act}" in log
    assert not other.attempts.exists()  # for the next submission


@pytest.mark.slow
def test_a_stopped_process_is_found_and_its_stacks_too(tmp_path: Path) -> None:
    path, (folder,) = written(tmp_path, "goes_on")
    with job(path) as process:
        until_it_acts(folder, process)
        process.send_signal(signal.SIGSTOP)
        assert process.wait(30) == -signal.SIGKILL
    assert failure(folder)["message"].endswith("its process was stopped")
    assert any("in goes_on" in line for line in failure(folder)["traceback"])


@pytest.mark.slow
def test_a_job_that_was_suspended_as_a_whole_goes_on(tmp_path: Path) -> None:
    path, (folder,) = written(tmp_path, "goes_on")
    with job(path) as process:
        until_it_acts(folder, process)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(3 * FLOOR_S)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait(30) == 0
    assert read_result(folder) is not None


@pytest.mark.slow
def test_what_is_no_step_is_no_hang(tmp_path: Path) -> None:
    path, folders = written(tmp_path, "evaluates", "asks_whether_to_stop", "saves")
    with job(path) as process:
        assert process.wait(60) == 0, path.with_suffix(".err").read_text()
    assert all(read_result(folder) for folder in folders)


@pytest.mark.slow
def test_nothing_listens_after_the_job(tmp_path: Path) -> None:
    path, _ = written(tmp_path, "saves")
    with job(path) as process:
        assert process.wait(60) == 0
        assert living(process.pid) == []


@pytest.mark.slow
def test_a_killed_job_leaves_no_listener(tmp_path: Path) -> None:
    path, (folder,) = written(tmp_path, "sleeps")
    with job(path) as process:
        until_it_acts(folder, process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        listeners = [c for c in children if b"listener" in Path(f"/proc/{c}/cmdline").read_bytes()]
        assert len(listeners) == 1
        process.kill()
        process.wait()
        time.sleep(0.5)
        assert listeners[0] not in living(process.pid)
        os.killpg(process.pid, signal.SIGKILL)  # what the stage itself had started


def limits(page: bytearray, floor_s: float) -> float:
    """The limit that the listener would apply now."""
    _, steps, patience = HEAD.unpack_from(page)
    return float(max(MEDIANS * median_step(bytes(page), steps), floor_s) * patience)


def test_the_limit_follows_the_median_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    page = bytearray(PAGE_BYTES)
    pulse = Pulse(page)  # type: ignore[arg-type]
    assert limits(page, 60.0) == 60.0 * PATIENCE
    now[0] += 100.0  # imports
    pulse.step()
    assert limits(page, 60.0) == 60.0 * PATIENCE, "no step was measured yet"
    for seconds in (20.0, 30.0, 20.0, 900.0, 20.0):
        now[0] += seconds
        pulse.step()
    assert limits(page, 60.0) == MEDIANS * 20.0
    assert limits(page, 600.0) == 600.0
    pulse.slow()
    now[0] += 500.0  # a checkpoint
    assert limits(page, 60.0) == MEDIANS * 20.0 * PATIENCE
    pulse.step()
    assert HEAD.unpack_from(page)[1] == 5, "a checkpoint is no part of a step"
    for _ in range(2 * RING.size):
        now[0] += 1.0
        pulse.beat()
        pulse.step()
    assert limits(page, 5.0) == 5.0, "an evaluation is no part of a step, and old steps are forgotten"


def test_only_silence_that_was_watched_counts() -> None:
    silence = Silence(0.0)
    silence.look(1, 1.0, 1.0)
    silence.look(1, 2.0, 1.0)
    assert silence.seconds == 1.0
    silence.look(1, 5_000.0, 1.0)  # both were suspended
    assert silence.seconds == 3.0
    silence.look(2, 5_001.0, 1.0)
    assert silence.seconds == 0.0
