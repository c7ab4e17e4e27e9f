"""Slurm itself fails: the daemon is gone during sbatch, the accounts are down or hang, a job is preempted."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster import rehearsal
from cluster.clients import Answer, Clients, NoAnswer, Why
from cluster.executors.slurm import SlurmExecutor
from cluster.job import JobState
from cluster.profiles import SlurmProfile
from cluster.rehearsal import Rehearsal, Shape, breaks
from orchestrator.board import Status
from sweeps.errors import EnvironmentError_
from sweeps.store.records import read_result
from tests.cluster.jobs import ended, known, request, until
from tests.cluster.slurm.test_contract import executor
from tests.cluster.slurm.test_policy import reign, toys
from tests.cluster.slurm.test_real import began, client, state
from tests.workloads.tickets import spec, stage_folder

pytestmark = pytest.mark.slurm
TROUBLES = 10


@pytest.fixture
def broken(slurm: Rehearsal) -> Iterator[Rehearsal]:
    """The rehearsal, put right again after the test."""
    yield slurm
    breaks(slurm, "repair")


def hasty(root: Path, slurm: Rehearsal) -> SlurmExecutor:
    """An executor whose clients lose patience soon."""
    profile = SlurmProfile(slots=8, interval_s=0.2, lead_s=30, memory_mb=1000, timeout_s=3)
    return SlurmExecutor(root / "notes", profile, Clients(conf=str(slurm.conf), timeout_s=3, sbatch_timeout_s=2))


def test_an_sbatch_whose_daemon_hangs_is_found_when_it_goes_on(broken: Rehearsal, tmp_path: Path) -> None:
    """The request lies in the daemon's socket: sbatch is killed, and the job may be accepted all the same."""
    cluster, stage = hasty(tmp_path, broken), spec()
    assert cluster.slots_free() == 8
    wanted = request(tmp_path, [[stage]])
    cluster._watch.interval_s = 60.0  # the last good answer stands for a minute: nothing stops the submission
    breaks(broken, "hang-slurmctld")
    with pytest.raises(EnvironmentError_, match="may have been submitted all the same"):
        cluster.submit(wanted)
    threading.Timer(4.0, lambda: breaks(broken, "release-slurmctld")).start()
    cluster._watch.interval_s = 0.2
    found = known(cluster)
    again = executor(tmp_path, broken).find("batch-1")
    assert found == again
    reports = ended(cluster, found)
    assert (read_result(stage_folder(tmp_path, stage)) is not None) == bool(reports)


@dataclass(kw_only=True)
class Troubled(Clients):
    """Its first `TROUBLES` calls of sbatch meet a daemon that fails around them, in three ways by turns."""

    slurm: Rehearsal
    met: int = 0
    repairs: list[threading.Timer] = field(default_factory=list)

    def sbatch(self, script: str, environment: Mapping[str, str]) -> Answer | NoAnswer:
        if self.met == TROUBLES:
            return super().sbatch(script, environment)
        self.met += 1
        if self.met % 3 == 0:  # it takes the request, and is gone before it can say so
            super().sbatch(script, environment)
            self._break("stop-slurmctld", "start-slurmctld")
            return NoAnswer(why=Why.TIMEOUT, text="sbatch: no answer")
        if self.met % 3 == 1:  # it hangs: the request lies in its socket
            self._break("hang-slurmctld", "release-slurmctld")
        else:
            self._break("stop-slurmctld", "start-slurmctld")
        return super().sbatch(script, environment)

    def _break(self, fault: str, repair: str) -> None:
        breaks(self.slurm, fault)
        self.repairs.append(threading.Timer(4.0, lambda: breaks(self.slurm, repair)))
        self.repairs[-1].start()


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_ten_submissions_without_an_answer_run_every_stage_once(broken: Rehearsal, tmp_path: Path) -> None:
    plan = toys(tmp_path, {f"t{i}": spec(salt=i) for i in range(TROUBLES + 2)})
    clients = Troubled(conf=str(broken.conf), timeout_s=3, sbatch_timeout_s=2, slurm=broken)
    with reign(plan, broken, slots=1, clients=clients) as run:
        run.drive(patience_s=800)
    for repair in clients.repairs:
        repair.join()
    assert clients.met == TROUBLES and set(run.reconciler.board.status.values()) == {Status.DONE}
    assert {run.attempts(node.spec) for node in plan.graph.nodes.values()} == {1}
    ours = {e["name"] for e in run.events("intent")}

    def jobs() -> list[int]:
        names = Counter(client(broken, "sacct", "-n", "-X", "-P", "-S", "now-1hours", "-o", "JobName").split())
        return sorted(names[name] for name in ours if names[name])

    until(lambda: len(jobs()) == len(plan.graph.nodes))  # a daemon that was away hands its accounts on later
    assert set(jobs()) == {1}, "no submission became two jobs, and no stage had two"


def test_a_daemon_that_restarts_ends_no_job(broken: Rehearsal, tmp_path: Path) -> None:
    cluster, stage = hasty(tmp_path, broken), spec("wait")
    handles = cluster.submit(request(tmp_path, [[stage]]))
    until(lambda: began(tmp_path, stage))
    breaks(broken, "stop-slurmctld")  # with SIGKILL it forgets a job's start, and holds the job for a person
    seen = set()
    for _ in range(3):
        seen.add(state(cluster, handles[0]))
        assert cluster.slots_free() == 0
        time.sleep(0.5)
    assert seen == {JobState.UNKNOWN}
    breaks(broken, "start-slurmctld")
    time.sleep(cluster._clients.resumes_s("squeue"))
    until(lambda: state(cluster, handles[0]) is JobState.RUNNING)
    cluster.cancel(handles)
    assert [r.detail for r in ended(cluster, handles)] == ["exit 0"]


@pytest.mark.parametrize("fault", ["stop-slurmdbd", "hang-sacct"])
def test_accounts_that_fail_hold_nothing_up(broken: Rehearsal, tmp_path: Path, fault: str) -> None:
    cluster, stages = hasty(tmp_path, broken), [spec(), spec("ignore")]
    breaks(broken, fault)
    handles = cluster.submit(request(tmp_path, [[s] for s in stages]))
    until(lambda: began(tmp_path, stages[1]))
    Clients(conf=str(broken.conf)).scancel(handles[1].job_id)
    assert [r.detail for r in ended(cluster, handles)] == ["exit 0", "CANCELLED"]


def test_a_preempted_job_is_not_over_and_goes_on(broken: Rehearsal, tmp_path: Path) -> None:
    cluster, stage = hasty(tmp_path, broken), spec("wait")
    handles = cluster.submit(request(tmp_path, [[stage]]))
    until(lambda: began(tmp_path, stage))
    breaks(broken, "preempt", handles[0].job_id)
    deadline = time.monotonic() + 110  # the grace clock ticks about every 30 s
    while read_result(stage_folder(tmp_path, stage)) is None:
        (report,) = cluster.poll(handles)
        if report.state is JobState.ENDED:  # it left in time, on the signal: then it is for the reconciler to go on
            assert report.detail.endswith("exit 0")
            assert (stage_folder(tmp_path, stage).attempt(1).path / "stopped.json").exists()
            return
        assert time.monotonic() < deadline, report
        time.sleep(0.2)
    result = read_result(stage_folder(tmp_path, stage))
    assert result is not None and result.scores["resumed_from"] == 7.0


def test_a_cluster_without_accounts_is_enough(tmp_path: Path, slurm: Rehearsal) -> None:
    bare = rehearsal.up(f"bare-{uuid.uuid4().hex[:8]}", Shape(nodes=1, cpus=4, accounting=False))
    try:
        cluster, stages = hasty(tmp_path, bare), [spec(), spec("fail"), spec("ignore")]
        handles = cluster.submit(request(tmp_path, [[s] for s in stages]))
        until(lambda: began(tmp_path, stages[2]))
        Clients(conf=str(bare.conf)).scancel(handles[2].job_id)
        assert [r.detail for r in ended(cluster, handles)] == ["exit 0", "exit 1", "CANCELLED"]
        assert hasty(tmp_path, bare).find("batch-1") == handles
    finally:
        rehearsal.down(bare.name)
