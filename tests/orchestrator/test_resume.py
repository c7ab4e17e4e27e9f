"""Real training, real processes, kill -9: running the command again ends with the same tables, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SMALL = ["--set", "complexity=[60-75]", "--set", "seed=[0]", "--set", "pretrain.ends=[50%,100%]"]


def command(root: Path) -> list[str]:
    return [sys.executable, "-m", "orchestrator", "sweep", str(ROOT / "sweeps" / "smoke.yaml"), "--root", str(root),
            "--quiet", *SMALL]


def tables(root: Path) -> dict[str, bytes]:
    folder = root / "sweeps" / "smoke" / "report" / "tables"
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.stem != "cost"}


def attempts(root: Path) -> dict[str, int]:
    return {p.name: len(list(p.glob("attempts/[0-9]*"))) for p in (root / "stages").glob("*/*")}


def wait_for(root: Path, kind: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any((root / "stages" / kind).glob("*/attempts/*/metrics.jsonl")):
            return
        time.sleep(0.1)
    raise AssertionError(f"no {kind} stage began within {seconds} s")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_controller_leaves_nothing_undone_and_runs_nothing_twice(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), cwd=ROOT, check=True, capture_output=True)
    controller = subprocess.Popen(command(killed), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(killed, "pretrain")
    os.kill(controller.pid, signal.SIGKILL)
    controller.wait()
    subprocess.run(command(killed), cwd=ROOT, check=True, capture_output=True)
    assert tables(killed) == tables(whole)
    assert set(attempts(killed)) == set(attempts(whole))
    # Jobs outlive their controller and are adopted, so not even the interrupted stages ran again.
    assert set(attempts(killed).values()) == {1}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_checkpoints_and_the_same_command_goes_on(tmp_path: Path) -> None:
    controller = subprocess.Popen(command(tmp_path), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  text=True)
    wait_for(tmp_path, "prepretrain")
    controller.send_signal(signal.SIGINT)
    _, said = controller.communicate(timeout=60)
    assert controller.returncode == 130
    assert "run the same command to go on" in said
    done = subprocess.run([*command(tmp_path), "--json"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["trials"]["done"] == 2
