"""Hundreds of jobs on a real Slurm: each stage runs once, also packed; queued ones are gone within seconds."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import slurm as benchmark
from cluster.clients import Clients
from cluster.rehearsal import Rehearsal, breaks
from orchestrator.board import Status
from orchestrator.session import record
from sweeps.store.ledger import fold, read_events
from tests.cluster.slurm.test_policy import reign, toys
from tests.cluster.slurm.test_real import client
from tests.faults.points import ROOT, stages
from tests.workloads.tickets import spec

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
MANY = 200


@pytest.fixture
def drained(slurm: Rehearsal) -> Iterator[Rehearsal]:
    """The rehearsal, with nodes that take no jobs."""
    for node in slurm.nodes:
        breaks(slurm, "drain", node)
    yield slurm
    breaks(slurm, "repair")


def test_hundreds_of_queued_jobs_are_cancelled_within_seconds(drained: Rehearsal, tmp_path: Path) -> None:
    plan = toys(tmp_path, {f"t{i}": spec(salt=i) for i in range(MANY)})
    folder = plan.layout.sweep("s")
    folder.path.mkdir(parents=True)
    record(plan, folder)
    with reign(plan, drained, slots=MANY, interval_s=5.0) as run:
        run.drive(lambda: len(run.reconciler._jobs) == MANY)
        assert len(client(drained, "squeue", "-h", "-r", "-t", "pending").splitlines()) == MANY
        began = time.monotonic()
        asked = subprocess.Popen([sys.executable, "-m", "orchestrator", "cancel", "--all", "s", "--root",
                                  str(tmp_path)], cwd=ROOT)
        run.drive()
        seconds = time.monotonic() - began
        assert asked.wait() == 0
        assert not client(drained, "squeue", "-h", "-r", "-t", "pending,running,completing")
        assert set(run.reconciler.board.status.values()) == {Status.CANCELLED}
    state = fold(read_events(folder))
    assert state.cancelled == set(plan.graph.paths) and len(state.asked) == MANY and not state.failures
    assert all(len(s.ended) == len(s.tickets) for s in state.submissions.values())
    assert stages(tmp_path) == {} or not any(attempts for attempts, _ in stages(tmp_path).values())
    assert seconds < 10


@pytest.mark.parametrize("pack", [1, benchmark.PACKED])
def test_hundreds_of_stages_run_once_each_in_one_array_or_packed(slurm: Rehearsal, tmp_path: Path, pack: int) -> None:
    planned = benchmark.plan(tmp_path, [benchmark.stage(i) for i in range(MANY)], pack)
    with benchmark.reign(planned, Clients(conf=str(slurm.conf)), MANY) as reconciler:
        benchmark.until(lambda: reconciler.finished, reconciler.step)
        assert len(reconciler.board.done) == MANY
    found = stages(tmp_path / "store")
    assert len(found) == MANY and all(attempts == 1 and result for attempts, result in found.values())
    intents = [e for e in read_events(reconciler.folder) if e["event"] == "intent"]
    assert [len(e["tickets"]) for e in intents] == [MANY // pack], "one call of sbatch for all"
