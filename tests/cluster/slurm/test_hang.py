"""A job that hangs on a real Slurm: every rank leaves its stacks, and Slurm is left with nothing to wait for."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.job import JobRequest, JobState
from cluster.rehearsal import Rehearsal
from orchestrator.board import Status
from orchestrator.plan import Planned
from sweeps.language.stage import StageSpec
from sweeps.language.units import Duration
from sweeps.store.files import read_json
from tests.cluster.slurm.test_contract import executor
from tests.cluster.slurm.test_policy import reign, toys
from tests.cluster.slurm.test_ranks import pids
from tests.cluster.slurm.test_real import began
from tests.workloads.test_watchdog import written
from tests.workloads.tickets import PLUGIN_TEXT, spec, stage_folder
from workloads.registry import load_registries

pytestmark = pytest.mark.slurm


@pytest.mark.proof
def test_two_ranks_that_hang_on_two_nodes_are_dumped_and_gone(slurm: Rehearsal, tmp_path: Path) -> None:
    path, (stage, other) = written(tmp_path, "sleeps", "saves")
    cluster = executor(tmp_path, slurm, nodes=2)
    folder = str(tmp_path / "jobs" / "batch-1")
    [handle] = cluster.submit(JobRequest(name="batch-1", tickets=(str(path),), folder=folder, ranks=2, cores=2))
    deadline = time.monotonic() + 60
    while (report := cluster.poll([handle])[0]).state is not JobState.ENDED:
        assert time.monotonic() < deadline, report
        time.sleep(0.2)
    attempt = stage.attempt(1).path
    said = [read_json(found) for found in sorted(attempt.glob("failure*.json"))]
    assert [one["class"] for one in said] == ["HangError", "HangError"], report
    assert {one["message"][:len("rank 0 of 2")] for one in said} == {"rank 0 of 2", "rank 1 of 2"}
    for rank in range(2):
        log = cluster.logs(handle)["err"].with_name(f"{handle.job_id}_{rank}_log.err").read_text()
        assert "in sleeps" in log
    assert not other.attempts.exists()


def two_ranks(root: Path, stage: StageSpec) -> Planned:
    """A plan of one toy stage on two ranks, which hang after six seconds of silence: they make no steps."""
    plan = toys(root, {"a": stage})
    plan.plugins[0].write_text(PLUGIN_TEXT.replace("revision=1,", "revision=1, distributed=True,"))
    run = plan.sweep.run.model_copy(update={"ranks": 2, "hang_floor": Duration("1 s")})
    return replace(plan, registries=load_registries(plan.plugins), sweep=plan.sweep.model_copy(update={"run": run}))


def watched(folder: Path, *, rank: int) -> list[int]:
    """Return a rank's process once it has begun a stage: then another process listens to it."""
    return [pid for pid in pids(folder, rank=rank) if any(
        b"listener" in Path(f"/proc/{child}/cmdline").read_bytes()
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def test_a_rank_that_is_stopped_is_a_hang_and_the_stage_is_gone_on_with(slurm: Rehearsal, tmp_path: Path) -> None:
    stage = spec("hold")
    with reign(two_ranks(tmp_path, stage), slurm, nodes=2) as run:
        run.drive(lambda: began(tmp_path, stage) and watched(tmp_path, rank=1))
        goes_on, stopped = watched(tmp_path, rank=0), watched(tmp_path, rank=1)
        assert goes_on and stopped
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        run.drive(lambda: run.events("failed", "interrupted"))
        event, = run.events("failed", "interrupted")
        assert (event["class"], event["action"]) == ("hang", "resume")
        said = read_json(stage_folder(tmp_path, stage).attempt(1).failure)
        assert "rank 1 of 2 showed no sign of life" in said["message"] and "was stopped" in said["message"]
        assert any("in run" in line for line in said["traceback"]), "what it was doing when it was stopped"
        assert not {*goes_on, *stopped} & {*pids(tmp_path, rank=0), *pids(tmp_path, rank=1)}, "no rank lives on"
        (stage_folder(tmp_path, stage).path / "go").touch()
        run.drive()
        assert run.reconciler.board.status[stage.fingerprint] is Status.DONE and run.attempts(stage) == 2
        assert len(run.events("intent")) == 2
