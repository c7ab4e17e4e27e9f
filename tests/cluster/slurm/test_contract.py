"""The Slurm executor keeps the contract of all executors, on a real Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.clients import Clients
from cluster.executors.slurm import SlurmExecutor
from cluster.profiles import SlurmProfile
from cluster.rehearsal import Rehearsal
from tests.cluster import test_executors
from tests.cluster.test_executors import Make

pytestmark = pytest.mark.slurm


def executor(root: Path, slurm: Rehearsal, *, clients: Clients | None = None, **options: object) -> SlurmExecutor:
    """An executor whose notes lie in `root`."""
    chosen = {"slots": 8, "interval_s": 0.2, "lead_s": 30, "memory_mb": 1000, "grace_s": 10, **options}
    profile = SlurmProfile.model_validate(chosen)
    return SlurmExecutor(root / "notes", profile, clients or Clients(conf=str(slurm.conf)))


@pytest.fixture
def make(slurm: Rehearsal, tmp_path: Path) -> Make:
    """slots -> an executor."""
    return lambda slots: executor(tmp_path, slurm, slots=slots)


class TestContract(test_executors.TestContract):
    """What every executor promises."""
