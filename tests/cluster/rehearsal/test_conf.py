"""Configuration against recorded text: what Slurm and MariaDB are told changes only where somebody sees it.

After a change that is meant: ORCHESTRATOR_RECORD=1 pytest tests/cluster/rehearsal/test_conf.py, and read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.rehearsal import daemons
from cluster.rehearsal.conf import slurm_conf, slurmdbd_conf
from cluster.rehearsal.describe import Preemption, Rehearsal, Shape
from tests.cluster.rehearsal.samples import described

RECORDS = Path(__file__).parent / "records"
CANCEL = Shape(nodes=3, cpus=8, accounting=False, preemption=Preemption.CANCEL, user_signal=False)


def commands(rehearsal: Rehearsal) -> str:
    """Every daemon's command line, one a line."""
    return "".join(" ".join(daemons.command(rehearsal, key)) + "\n" for key in daemons.keys(rehearsal))


@pytest.mark.parametrize("file, text", [
    ("slurm.conf", slurm_conf(described())),
    ("slurm-cancel-no-accounting.conf", slurm_conf(described("Odd.Name", CANCEL))),
    ("slurm-24.11.conf", slurm_conf(described(version="24.11.5"))),
    ("slurmdbd.conf", slurmdbd_conf(described())),
    ("commands.txt", commands(described())),
])
def test_what_the_daemons_are_told_is_the_recorded_text(file: str, text: str) -> None:
    if os.environ.get("ORCHESTRATOR_RECORD"):
        (RECORDS / file).write_text(text, encoding="utf-8")
    assert text == (RECORDS / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [slurm_conf(described()), slurmdbd_conf(described()), commands(described())])
def test_the_folder_a_person_chose_meets_no_configuration_syntax(text: str) -> None:
    assert "somebody's folder #1" not in text


def test_without_accounting_nothing_speaks_to_slurmdbd() -> None:
    rehearsal = described(shape=CANCEL)
    assert "slurmdbd" not in slurm_conf(rehearsal)
    assert daemons.keys(rehearsal) == ("munged", "slurmctld", *(f"slurmd.{n}" for n in rehearsal.nodes))


def test_daemons_do_not_inherit_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    assert "hunter2" not in daemons.environment(described()).values()
