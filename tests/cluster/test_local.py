"""The local executor against dead controllers, killed jobs and process ids that are used again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.executors import _notes, _process
from cluster.executors.local import LocalExecutor, default_slots, environment
from cluster.job import JobHandle, JobRequest, JobState
from cluster.launch import NEVER_BEGAN
from sweeps.errors import UsageError
from sweeps.store import files
from sweeps.store.records import own_rows, read_result
from tests.cluster.jobs import ended, processes_of, request, until
from tests.workloads.tickets import spec, stage_folder


@pytest.fixture
def executor(tmp_path: Path) -> LocalExecutor:
    """Four slots, a short grace."""
    return LocalExecutor(tmp_path / "jobs", 4, grace_seconds=0.3)


def works(root: Path, act: str = "wait") -> bool:
    """Tell whether the toy stage has written its first row."""
    return bool(list(own_rows(stage_folder(root, spec(act)).attempt(1))))


def pid_of(root: Path, name: str = "batch-1") -> int:
    """The recorded process of the first job."""
    return int(files.read_json(root / "jobs" / name / "0.pid.json")["pid"])


def test_a_killed_job_is_seen_and_reaped(executor: LocalExecutor, tmp_path: Path) -> None:
    handles = executor.submit(request(tmp_path, [[spec("wait")]]))
    until(lambda: works(tmp_path))
    os.kill(pid_of(tmp_path), signal.SIGKILL)
    assert ended(executor, handles)[0].detail == "killed by signal 9"
    assert not Path(f"/proc/{pid_of(tmp_path)}").exists()
    again = LocalExecutor(tmp_path / "jobs", 4)
    assert again.poll(again.find("batch-1"))[0].detail == "killed by signal 9"


def test_a_job_that_ignores_its_cancellation_is_killed(executor: LocalExecutor, tmp_path: Path) -> None:
    handles = executor.submit(request(tmp_path, [[spec("ignore")]]))
    until(lambda: works(tmp_path, "ignore"))
    executor.cancel(handles)
    assert executor.poll(handles)[0].state is JobState.RUNNING
    assert ended(executor, handles)[0].detail == "killed by signal 9"


def test_a_cancelled_job_checkpoints_and_leaves(executor: LocalExecutor, tmp_path: Path) -> None:
    patient = LocalExecutor(tmp_path / "jobs", 4, grace_seconds=30)
    handles = patient.submit(request(tmp_path, [[spec("wait")]]))
    patient.cancel(handles)  # at once: before the job's handlers exist, so the signal waits for them
    assert ended(patient, handles)[0].detail == "exit 0"
    assert not works(tmp_path)
    handles = patient.submit(request(tmp_path, [[spec("wait")]], "batch-2"))
    until(lambda: (stage_folder(tmp_path, spec("wait")).attempts).is_dir())
    patient.cancel(handles)
    assert ended(patient, handles)[0].detail == "exit 0"


def test_a_new_executor_adopts_what_runs(executor: LocalExecutor, tmp_path: Path) -> None:
    handles = executor.submit(request(tmp_path, [[spec("wait")]]))
    until(lambda: works(tmp_path))
    second = LocalExecutor(tmp_path / "jobs", 4)
    assert second.find("batch-1") == handles
    assert second.slots_free() == 3
    assert second.poll(handles)[0].state is JobState.RUNNING
    second.cancel(handles)
    assert ended(second, handles)[0].detail == "exit 0"
    assert ended(executor, handles)[0].detail == "exit 0"


def test_controllers_under_one_root_share_the_slots(executor: LocalExecutor, tmp_path: Path) -> None:
    other = LocalExecutor(tmp_path / "jobs", 4, grace_seconds=0.3)
    assert other.slots_free() == 4
    handles = executor.submit(request(tmp_path, [[spec("wait")]], "one"))
    assert (executor.slots_free(), other.slots_free()) == (3, 3)
    executor.cancel(handles)
    ended(executor, handles)
    assert (executor.slots_free(), other.slots_free()) == (4, 4)


def controller(request_: JobRequest, folder: Path, crash: str) -> subprocess.Popen[str]:
    """A controller in a process of its own that submits and then dies by kill -9 at the point `crash`."""
    code = f"""
import os, signal, sys, time
from pathlib import Path
from cluster.executors import local
from cluster.job import JobRequest
def die(*given, **named):
    os.kill(os.getpid(), signal.SIGKILL)
if {crash!r} == "before the process is on record":
    local.write_process = die
if {crash!r} == "before the start":
    local.subprocess.Popen = die
local.LocalExecutor(Path({str(folder)!r}), 4).submit(JobRequest.model_validate_json({request_.model_dump_json()!r}))
die()
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_jobs_survive_their_controller(tmp_path: Path) -> None:
    with controller(request(tmp_path, [[spec("wait")]]), tmp_path / "jobs", "after") as first:
        first.wait()
    executor = LocalExecutor(tmp_path / "jobs", 4, grace_seconds=0.3)
    handles = executor.find("batch-1")
    assert [h.job_id for h in handles] == [str(pid_of(tmp_path))]
    assert executor.poll(handles)[0].state is JobState.RUNNING
    until(lambda: works(tmp_path))
    executor.cancel(handles)
    assert ended(executor, handles)[0].detail == "exit 0"


@pytest.mark.parametrize("crash", ["before the process is on record", "before the start"])
def test_a_job_that_is_not_on_record_never_begins(tmp_path: Path, crash: str) -> None:
    with controller(request(tmp_path, [[spec()], [spec(salt=1)]]), tmp_path / "jobs", crash) as first:
        first.wait()
    executor = LocalExecutor(tmp_path / "jobs", 4)
    handles = executor.find("batch-1")
    assert [h.index for h in handles] == [0, 1]
    reports = executor.poll(handles)
    assert [r.state for r in reports] == [JobState.ENDED] * 2
    assert {r.detail for r in reports} <= {"never began", "the executor died before the job began"}
    assert executor.slots_free() == 4
    until(lambda: not processes_of(tmp_path))
    assert not stage_folder(tmp_path, spec()).attempts.exists()


def test_launch_leaves_when_nobody_says_go(tmp_path: Path) -> None:
    note = tmp_path / "0.json"
    command = [sys.executable, "-m", "cluster.launch", "none", "--note", str(note), "--token", "t"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == NEVER_BEGAN
    assert "died before" in (_notes.read_exit(note) or "")


@pytest.mark.parametrize("what", ["start", "token"])
def test_a_process_id_that_is_used_again_is_not_adopted(tmp_path: Path, what: str) -> None:
    """Another process has the recorded id: it is neither waited for nor signalled."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        host, boot = _process.machine()
        while not Path(f"/proc/{stranger.pid}/cmdline").read_bytes():
            time.sleep(0.01)  # within exec, when nothing can be told of its words
        start = _process.start_time(stranger.pid) or 0
        note = _notes.Note(
            submission="old", index=0, count=1, ticket="t", token="0" * 32, host=host, boot=boot, submitter_pid=1,
            submitter_start=1, out="o", err="e",
        )
        path = note.path(tmp_path / "jobs")
        files.create(path, files.to_json(note.model_dump()))
        shift = 1 if what == "start" else 0
        _notes.write_process(path, _process.Identity(pid=stranger.pid, start=start - shift))
        executor = LocalExecutor(tmp_path / "jobs", 1)
        handles = executor.find("old")
        assert handles == [JobHandle(submission="old", index=0, job_id=str(stranger.pid))]
        executor.cancel(handles)
        assert executor.poll(handles)[0].state is JobState.ENDED
        assert executor.slots_free() == 1
        assert stranger.poll() is None
        stranger.kill()


def test_another_machines_jobs_are_unknown_and_a_reboot_ends_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def executor_on(host: str, boot: str) -> LocalExecutor:
        monkeypatch.setattr("cluster.executors.local.machine", lambda: (host, boot))
        return LocalExecutor(tmp_path / "jobs", 4, grace_seconds=0.3)

    here, boot = _process.machine()
    first = executor_on(here, boot)
    handles = first.submit(request(tmp_path, [[spec("wait")]]))
    assert executor_on("elsewhere", "another").poll(handles)[0].state is JobState.UNKNOWN
    assert executor_on("renamed", boot).poll(handles)[0].state is JobState.RUNNING
    same = executor_on(here, boot)
    same.cancel(handles)
    ended(first, handles)
    assert executor_on(here, "next boot").poll(handles)[0].state is JobState.ENDED


def test_zombies_do_not_count() -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert _process.start_time(child.pid) is None


def test_requests_that_cannot_run_here(executor: LocalExecutor, tmp_path: Path) -> None:
    for change in ({"name": "../x"}, {"name": ""}, {"ranks": 2}):
        wrong = JobRequest.model_validate({"name": "a", "tickets": ("t",), "folder": str(tmp_path), **change})
        with pytest.raises(UsageError):
            executor.submit(wrong)


def test_only_listed_variables_travel() -> None:
    wanted = JobRequest(name="a", tickets=(), folder="f", environment={"OMP_NUM_THREADS": "2", "X": "1"})
    given = {"PATH": "/bin", "LC_ALL": "C", "HF_TOKEN": "secret", "SLURM_JOB_ID": "7"}
    assert environment(wanted, given) == {"PATH": "/bin", "LC_ALL": "C", "OMP_NUM_THREADS": "2", "X": "1"}


def test_a_job_has_a_thread_for_each_of_its_cores() -> None:
    assert environment(JobRequest(name="a", tickets=(), folder="f", cores=3), {}) == {"OMP_NUM_THREADS": "3"}


@pytest.mark.parametrize(("cores", "memory_mb", "slots"), [(2, 8_000, 2), (16, 8_000, 4), (1, 500, 1), (8, 64_000, 8)])
def test_default_slots(cores: int, memory_mb: int, slots: int) -> None:
    assert default_slots(cores, memory_mb) == slots


def test_results_and_notes_are_private(executor: LocalExecutor, tmp_path: Path) -> None:
    handles = executor.submit(request(tmp_path, [[spec()]]))
    ended(executor, handles)
    folder = stage_folder(tmp_path, spec())
    assert read_result(folder) is not None
    assert folder.attempt(1).metrics.stat().st_mode & 0o077 == 0
    assert json.loads((tmp_path / "jobs" / "batch-1" / "0.exit.json").read_text())["code"] == 0
