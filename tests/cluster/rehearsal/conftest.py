"""One cluster for all tests of a session that need one; it is whole again after each of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.rehearsal import Rehearsal, breaks, down, up
from cluster.rehearsal.client import ask
from cluster.rehearsal.needs import require
from cluster.rehearsal.places import VARIABLE
from sweeps.errors import EnvironmentError_


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of rehearsals of this test's own; short, because sockets lie below it."""
    folder = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
    monkeypatch.setenv(VARIABLE, str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def installed() -> None:
    """Skip, naming the line that installs it, where Slurm is missing."""
    try:
        require(accounting=True)
    except EnvironmentError_ as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def session_cluster(installed: None) -> Iterator[Rehearsal]:
    """A cluster of two nodes with accounting."""
    base = tempfile.mkdtemp(prefix="rt-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, base)
        rehearsal = up("tests")
        yield rehearsal
        down("tests")
    shutil.rmtree(base)


@pytest.fixture
def cluster(session_cluster: Rehearsal) -> Iterator[Rehearsal]:
    """The session's cluster, put right and emptied of jobs afterwards."""
    yield session_cluster
    breaks(session_cluster, "repair")
    ask(session_cluster, ["scancel", f"--user={session_cluster.user}"])
