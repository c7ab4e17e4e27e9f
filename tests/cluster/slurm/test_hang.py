"""A job that hangs on a real Slurm: every rank leaves its stacks, and Slurm is left with nothing to wait for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cluster.job import JobRequest, JobState
from cluster.rehearsal import Rehearsal
from sweeps.store.files import read_json
from tests.cluster.slurm.test_contract import executor
from tests.workloads.test_watchdog import written

pytestmark = pytest.mark.slurm


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
