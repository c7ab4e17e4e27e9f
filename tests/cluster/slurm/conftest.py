"""A rehearsal cluster for the tests that need a real Slurm, and a folder of fake clients for those that do not."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import rehearsal
from cluster.clients import Clients, needed
from cluster.rehearsal import Rehearsal, Shape
from cluster.rehearsal.conf import slurm_conf
from sweeps.errors import EnvironmentError_
from tests.cluster.slurm.fakes import DISABLED, Clock, Fakes

REUSED = "ORCHESTRATOR_TEST_REHEARSAL"
"""Name of a rehearsal that is up already, for running one test again and again."""


@contextmanager
def rehearsed(shape: Shape, conf: Callable[[Rehearsal], str] = slurm_conf) -> Iterator[Rehearsal]:
    """A rehearsal cluster of this shape; skips, with the line that installs Slurm, where it cannot be had.

    `conf` gives the text of its slurm.conf, for what only tests want of it.
    """
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules["cluster.rehearsal.up"], "slurm_conf", conf)
            started = rehearsal.up(f"tests-{uuid.uuid4().hex[:8]}", shape)
    except EnvironmentError_ as error:
        if "apt-get" not in str(error):
            raise
        pytest.skip(str(error))
    try:
        yield started
    finally:
        rehearsal.down(started.name)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Rehearsal]:
    """A rehearsal cluster for all tests."""
    if REUSED in os.environ:
        yield rehearsal.find(os.environ[REUSED])
        return
    with rehearsed(Shape(cpus=4)) as started:
        yield started


@pytest.fixture(autouse=True)
def no_slurm_jobs_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Cancel whatever a test left in the rehearsal cluster, and wait until it is gone."""
    yield
    if "slurm" not in request.fixturenames:
        return
    clients = Clients(conf=str(request.getfixturevalue("slurm").conf))
    deadline = time.monotonic() + 30
    while needed(clients.query("squeue", "-h", "-r")):
        assert time.monotonic() < deadline, clients.query("squeue")
        clients.scancel("-u", str(os.getuid()))
        time.sleep(0.2)


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """Clients of a cluster without jobs and without accounts; tests change what they need."""
    made = Fakes(folder=tmp_path / "it's bin")
    monkeypatch.setenv("PATH", f"{made.folder}:/usr/bin:/bin")
    made.says("squeue", "")
    made.fails("sacct", DISABLED)
    made.does("scontrol", 'case "$*" in "show config") echo "MessageTimeout = 10 sec"; echo "MaxArraySize = 1001";; '
              '*) echo "No jobs in the system";; esac')
    made.says("sbatch", "12\n")
    made.says("scancel", "")
    return made


@pytest.fixture
def clock() -> Clock:
    """A clock for the executor, its clients and its sleep."""
    return Clock()
