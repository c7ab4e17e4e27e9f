"""The verb: help, refusals and exit codes, without a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.rehearsal import FAULTS, needs
from cluster.rehearsal.faults import breaks
from orchestrator.__main__ import main
from sweeps.errors import EnvironmentError_, UsageError
from tests.cluster.rehearsal.samples import described


def test_missing_packages_are_named_with_the_line_that_installs_them() -> None:
    with pytest.raises(EnvironmentError_) as caught:
        needs.require(accounting=True, which=lambda name: None if name in ("munged", "slurmdbd") else f"/x/{name}")
    assert "not installed: munged, slurmdbd." in str(caught.value)
    assert ("apt-get install -y slurm-wlm slurmctld slurmd slurm-client munge slurmdbd mariadb-server"
            in str(caught.value))


def test_without_accounting_no_database_is_asked_for() -> None:
    needs.require(accounting=False, which=lambda name: None if name in needs.ACCOUNTING_PROGRAMS else f"/x/{name}")


def test_up_without_slurm_exits_4_and_leaves_nothing(
    places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(needs.shutil, "which", lambda *_, **__: None)
    assert main(["rehearsal", "up"]) == 4
    assert "apt-get install -y slurm-wlm" in capsys.readouterr().err
    assert list(places.iterdir()) == []


@pytest.mark.parametrize("argv, code, words", [
    (["up", "--name", "a/b"], 2, "1 to 64 letters"),
    (["up", "--nodes", "0"], 2, "nodes 0: a rehearsal takes 1 to 64"),
    (["down"], 4, "start it: orchestrator rehearsal up"),
    (["status", "--name", "gone"], 4, "start it: orchestrator rehearsal up --name gone"),
    (["break"], 2, "break --list"),
    (["break", "kill-slurmd"], 4, "start it: orchestrator rehearsal up"),
])
def test_a_wrong_command_says_what_to_do(
    places: Path, capsys: pytest.CaptureFixture[str], argv: list[str], code: int, words: str,
) -> None:
    assert main(["rehearsal", *argv]) == code
    assert words in capsys.readouterr().err


def test_status_of_nothing_is_no_error(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearsal", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rehearsals"] == []


def test_every_fault_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearsal", "break", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(fault.name in shown and fault.summary in shown for fault in FAULTS.values())
    assert main(["rehearsal", "break", "--list", "--json"]) == 0
    assert [f["name"] for f in json.loads(capsys.readouterr().out)["faults"]] == list(FAULTS)


@pytest.mark.parametrize("fault, target, words", [
    ("kil-slurmd", "", "Did you mean 'kill-slurmd'"),
    ("drain", "", "needs a NODE"),
    ("preempt", "", "needs a JOB"),
    ("stop-slurmctld", "n1", "takes no argument"),
])
def test_a_fault_that_cannot_be_meant_is_refused_before_anything_is_touched(
    fault: str, target: str, words: str,
) -> None:
    with pytest.raises(UsageError, match=words):
        breaks(described(), fault, target)


@pytest.mark.parametrize("argv", [["--help"], ["up", "--help"], ["break", "--help"]])
def test_help_ends_well(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rehearsal", *argv])
    assert ended.value.code == 0 and "usage: orchestrator rehearsal" in capsys.readouterr().out


def test_a_rehearsal_loads_nothing_heavy() -> None:
    code = ("import sys, cluster.rehearsal, orchestrator.commands.rehearsal\n"
            "print([m for m in ('torch', 'ray', 'pandas', 'numpy', 'pydantic', 'submitit') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
