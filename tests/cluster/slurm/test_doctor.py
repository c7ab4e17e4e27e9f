"""`orchestrator doctor` on a real Slurm: with and without accounts, a busy cluster, a broken profile, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from cluster import rehearsal
from cluster.clients import Clients, needed
from cluster.rehearsal import Preemption, Rehearsal, Shape
from orchestrator.__main__ import main

pytestmark = pytest.mark.slurm


def written(tmp_path: Path, cluster: Rehearsal, **options: object) -> str:
    """A profile of a rehearsal."""
    path = tmp_path / "mine.yaml"
    values = {"executor": "slurm", "slurm_conf": str(cluster.conf), "slots": 8, "lead_s": 5, **options}
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()))
    return str(path)


def examined(capsys: pytest.CaptureFixture[str], tmp_path: Path, profile: str, *flags: str, code: int = 0
             ) -> dict[str, dict[str, Any]]:
    """What the verb finds, by check; nothing may be left in the store or the queue."""
    store = tmp_path / "store"
    assert main(["doctor", "--cluster", profile, "--root", str(store), "--json", *flags]) == code
    printed = json.loads(capsys.readouterr().out)
    assert not store.exists(), "the store was not there before"
    return {f["check"]: f for f in printed["findings"]}


def queue(cluster: Rehearsal) -> str:
    """The queue."""
    return needed(Clients(conf=str(cluster.conf)).query("squeue", "-h", "-o", "%i %j %T"))


def test_a_good_cluster(slurm: Rehearsal, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found = examined(capsys, tmp_path, written(tmp_path, slurm, scratch=str(scratch), memory_mb=1000))
    assert {f["verdict"] for f in found.values()} == {"ok"}, found
    assert str(scratch) in found["temporary"]["seen"] and not any(scratch.iterdir())
    assert "the code is the same" in found["versions"]["seen"]
    assert queue(slurm) == ""


def test_a_scratch_folder_that_is_not_there_is_seen_though_slurm_takes_another_silently(
    slurm: Rehearsal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = examined(capsys, tmp_path, written(tmp_path, slurm, scratch=str(tmp_path / "not" / "there")))
    assert found["temporary"]["verdict"] == "warning" and "could not make" in found["temporary"]["seen"]


def test_a_cluster_without_accounts_that_preempts_with_sigterm_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = Shape(nodes=1, accounting=False, preemption=Preemption.CANCEL, user_signal=False)
    other = rehearsal.up(f"tests-{uuid.uuid4().hex[:8]}", shape)
    try:
        found = examined(capsys, tmp_path, written(tmp_path, other, lead_s=60))
    finally:
        rehearsal.down(other.name)
    assert {c for c, f in found.items() if f["verdict"] != "ok"} == {"accounting", "preemption"}
    assert found["accounting"]["verdict"] == "warning" and "keeps no accounts" in found["submitting"]["seen"]
    assert "CANCEL; SIGTERM only" in found["preemption"]["seen"]


@pytest.mark.parametrize("options, check, words", [
    ({"partition": "mian"}, "partition", "mian: does not exist"), ({"memory_mb": 10**6}, "nodes", "0 nodes have"),
])
def test_what_slurm_refuses_is_foreseen(options: dict[str, object], check: str, words: str, slurm: Rehearsal,
                                        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = examined(capsys, tmp_path, written(tmp_path, slurm, **options), code=4)
    assert found[check]["verdict"] == "failed" and words in found[check]["seen"]
    assert found["test job"]["verdict"] == "failed" and found["test job"]["seen"].startswith("refused")


@pytest.mark.parametrize("options, check, words", [
    ({"setup": ["echo no such module >&2", "false"]}, "test job", "no such module"),
    ({"python": "/usr/bin/python3"}, "python", "/usr/bin/python3: torch"),
    ({"python": "/no/python"}, "test job", "/no/python"),
])
def test_what_would_end_every_job_is_shown_with_its_message(
    options: dict[str, object], check: str, words: str, slurm: Rehearsal, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = examined(capsys, tmp_path, written(tmp_path, slurm, **options), code=4)
    assert found[check]["verdict"] == "failed" and words in found[check]["seen"], found


def test_a_busy_cluster_is_waited_for_so_long_and_no_longer(
    slurm: Rehearsal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    busy = tmp_path / "busy.sh"
    busy.write_text("#!/bin/sh\nsleep 300\n")
    clients = Clients(conf=str(slurm.conf))
    for _ in slurm.nodes:
        subprocess.run(["sbatch", "--exclusive", "-o", "/dev/null", str(busy)], check=True, capture_output=True,
                       env={**os.environ, "SLURM_CONF": str(slurm.conf)})
    began = time.monotonic()
    found = examined(capsys, tmp_path, written(tmp_path, slurm), "--timeout", "4s")
    assert time.monotonic() - began < 20
    assert found["test job"]["verdict"] == "unknown" and "PENDING" in found["test job"]["seen"]
    assert found["python"]["verdict"] == "unknown" and "--timeout" in found["python"]["fix"]
    assert "doctor" not in needed(clients.query("squeue", "-h", "-o", "%j")), "the job was not cancelled"


@pytest.mark.parametrize("number, code, words", [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "")])
def test_ctrl_c_or_a_termination_takes_the_job_and_its_folder_away(
    slurm: Rehearsal, tmp_path: Path, number: signal.Signals, code: int, words: str
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    profile = written(tmp_path, slurm, setup=["sleep 300"])
    command = [sys.executable, "-m", "orchestrator", "doctor", "--cluster", profile, "--root", str(store)]
    doctor = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while "doctor" not in queue(slurm):
        assert time.monotonic() < deadline and doctor.poll() is None
        time.sleep(0.2)
    assert any(store.iterdir())
    doctor.send_signal(number)
    _, said = doctor.communicate(timeout=60)
    assert doctor.returncode == code and words in said
    assert queue(slurm) == "" and not any(store.iterdir())
