"""A real Slurm that enforces limits: on jobs in the queue, on jobs that run, on their time, on memory by cgroups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.clients import Clients, NoAnswer
from cluster.doctor import ask, limits, place
from cluster.doctor.finding import Verdict
from cluster.profiles import SlurmProfile
from cluster.rehearsal import Rehearsal, Shape
from cluster.rehearsal.client import ask as answered
from cluster.rehearsal.conf import slurm_conf
from orchestrator.board import Status
from tests.cluster.jobs import ended
from tests.cluster.slurm.conftest import rehearsed
from tests.cluster.slurm.test_policy import reign, toys
from tests.workloads.tickets import spec

pytestmark = pytest.mark.slurm
MOST, RUNNING, MINUTES = 3, 1, 2
"""Jobs in the queue that QOS `few` allows, jobs that run of `narrow`, and minutes of a job of `short`."""


@pytest.fixture(scope="module")
def limited() -> Iterator[Rehearsal]:
    """A cluster that enforces its limits, and QOS that have some."""
    def conf(rehearsal: Rehearsal) -> str:
        return slurm_conf(rehearsal) + "AccountingStorageEnforce=limits,qos\n"

    with rehearsed(Shape(nodes=1, cpus=4), conf) as started:
        for name, limit in (("few", f"MaxSubmitJobsPerUser={MOST}"), ("narrow", f"MaxJobsPerUser={RUNNING}"),
                            ("short", f"MaxWall={MINUTES}")):
            answered(started, ["sacctmgr", "-i", "add", "qos", name, "set", limit])
        if os.getuid():
            answered(started, ["sacctmgr", "-i", "add", "user", started.user, "account=root"])
        answered(started, ["sacctmgr", "-i", "modify", "user", f"name={started.user}", "set", "qos+=few,narrow,short"])
        yield started


def test_a_limit_on_queued_jobs_is_said_and_waited_for(limited: Rehearsal, tmp_path: Path) -> None:
    stages = {f"t{i}": spec(salt=i) for i in range(5)}
    with reign(toys(tmp_path, stages), limited, qos="few") as run:
        run.drive()
        assert set(run.reconciler.board.status.values()) == {Status.DONE}
        assert {run.attempts(stage) for stage in stages.values()} == {1}
        said, = (n.text for n in run.notices if n.kind == "waits")
        assert "QOSMaxSubmitJobPerUserLimit" in said and "no room for 5 more beside 0" in said
        assert not run.events("failed", "interrupted")


@pytest.mark.parametrize("qos, reason", [
    ("narrow", "QOSMaxJobsPerUserLimit"), ("short", "QOSMaxWallDurationPerJobLimit")])
def test_what_keeps_a_job_waiting_is_said(limited: Rehearsal, tmp_path: Path, qos: str, reason: str) -> None:
    plan = toys(tmp_path, {f"t{i}": spec("hold", salt=i) for i in range(RUNNING + 1)})
    with reign(plan, limited, qos=qos, time_limit_min=MINUTES + 1) as run:
        run.drive(lambda: any(n.kind == "waits" for n in run.notices))
        said, = (n.text for n in run.notices if n.kind == "waits")
        assert said.endswith(f"PENDING ({reason})")
        handles = [job.handle for job in run.reconciler._jobs]
        run.reconciler.executor.cancel(handles)
        ended(run.reconciler.executor, handles)


def test_the_doctor_reads_the_limits_of_a_qos(limited: Rehearsal) -> None:
    clients = Clients(conf=str(limited.conf))
    config = ask.config(clients)
    assert not isinstance(config, NoAnswer)
    told = ask.answers(clients, config)
    queued = limits.submit(told, SlurmProfile(qos="few", slots=MOST + 1))
    assert queued.verdict is Verdict.WARNING and f"QOS few allows {MOST} jobs" in queued.seen
    assert limits.submit(told, SlurmProfile(qos="few", slots=MOST)).verdict is Verdict.OK
    lasting = place.time_limit(told, SlurmProfile(qos="short", time_limit_min=MINUTES + 1, lead_s=30))
    assert lasting.verdict is Verdict.FAILED and f"QOS short allows {MINUTES}" in lasting.seen
    assert limits.account(told, SlurmProfile(qos="many")).verdict is Verdict.FAILED


MEMORY = Path("/sys/fs/cgroup/memory")
CGROUP_CONF = f"CgroupMountpoint={MEMORY.parent}\nCgroupPlugin=cgroup/v1\nConstrainRAMSpace=yes\nAllowedSwapSpace=0\n"


@pytest.fixture
def confined() -> Iterator[Rehearsal]:
    """A cluster whose jobs the kernel holds to their memory (cgroup v1), and not Slurm's own accounting."""
    if not os.access(MEMORY, os.W_OK) or os.getuid():
        pytest.skip("cgroup v1 is not writable here")

    def conf(rehearsal: Rehearsal) -> str:
        (rehearsal.folder / "etc" / "cgroup.conf").write_text(CGROUP_CONF, encoding="utf-8")
        text = slurm_conf(rehearsal).replace("TaskPlugin=task/none", "TaskPlugin=task/cgroup")
        return text.replace("JobAcctGatherParams=OverMemoryKill\n", "")

    with rehearsed(Shape(nodes=1, cpus=2), conf) as started:
        yield started
    for node in started.nodes:  # slurmd leaves them behind
        for folder in sorted(MEMORY.parent.glob(f"*/slurm_{node}/**/"), reverse=True):
            folder.rmdir()


def test_a_job_that_the_kernel_kills_for_its_memory_is_oom_host_too(confined: Rehearsal, tmp_path: Path) -> None:
    stage = spec("hoard")
    with reign(toys(tmp_path, {"a": stage}), confined, memory_mb=200) as run:
        run.drive()
        event, = run.events("failed", "interrupted")
        assert (event["class"], event["action"]) == ("oom_host", "give up"), event
