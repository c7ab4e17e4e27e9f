"""Whole sweeps with real training on a real Slurm: Ctrl-C detaches, and a controller that is a Slurm job survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.clients import Clients, needed
from cluster.rehearsal import Rehearsal, breaks
from sweeps.store.layout import Layout
from sweeps.store.ledger import State, fold, read_events
from tests.faults.live import SWEEP
from tests.faults.points import ROOT, stages

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
PATIENCE_S = 400.0
PROFILE = """\
executor: slurm
rehearsal: {name}
slots: 2
memory_mb: 2500
interval_s: 0.5
controller: {{time_limit_min: {limit}, lead_s: 10, cpus: 1, memory_mb: 2500}}
"""


class Shell:
    """A person's shell: a folder with a sweep file and a profile, and the command line."""

    def __init__(self, folder: Path, slurm: Rehearsal, *, limit: int = 60, arms: str = "none",
                 tokens: str = "0.2x") -> None:
        """Write both files; every stage is its own job, so that there is something to submit at any time."""
        self.folder, self.slurm = folder, slurm
        text = SWEEP.read_text(encoding="utf-8").replace("upstream: [none, shuffle_dyck]", f"upstream: [{arms}]")
        text = text.replace("pretrain.tokens: 0.2x", f"pretrain.tokens: {tokens}")
        assert f"[{arms}]" in text and f"tokens: {tokens}" in text
        (folder / "sweep.yaml").write_text(text.replace("slots: 1,", "pack: 1 s,"), encoding="utf-8")
        (folder / "cluster.yaml").write_text(PROFILE.format(name=slurm.name, limit=limit), encoding="utf-8")

    def start(self, verb: str, *more: str) -> subprocess.Popen[str]:
        """Start a verb."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "orchestrator", verb, *more, "--root", "store"], cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})

    def sweep(self, *more: str) -> subprocess.Popen[str]:
        """Start the sweep's command."""
        return self.start("sweep", "sweep.yaml", "--cluster", "cluster.yaml", *more)

    @property
    def state(self) -> State:
        """What the ledger says."""
        return fold(read_events(Layout(self.folder / "store").sweep("faults")))

    @property
    def restart(self) -> int:
        """Which start of the controller's job reigns."""
        owner = self.state.owner
        return -1 if owner is None or owner.job is None else owner.job.restart

    def ask(self, *command: str) -> str:
        """Ask Slurm."""
        return needed(Clients(conf=str(self.slurm.conf)).query(*command))

    def training(self) -> bool:
        """Tell whether a stage has begun to train and is not done."""
        return any(not (p.parents[2] / "result.json").exists()
                   for p in self.folder.glob("store/stages/pretrain/*/attempts/*/metrics.jsonl"))


@pytest.fixture
def repaired(slurm: Rehearsal) -> Iterator[Rehearsal]:
    """The rehearsal, put right again after the test."""
    yield slurm
    breaks(slurm, "repair")


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def said(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """Wait for a verb's end, which must be this one."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, err
    return out, err


def submitted_twice(folder: Path) -> list[str]:
    """Return the stages that were submitted while an earlier submission of theirs had not ended."""
    wrong: list[str] = []
    open_: dict[tuple[str, int], list[str]] = {}
    for event in read_events(Layout(folder / "store").sweep("faults")):
        if event["event"] == "intent":
            wrong += [k for ticket in event["tickets"] for k in ticket if any(k in keys for keys in open_.values())]
            open_ |= {(event["name"], i): ticket for i, ticket in enumerate(event["tickets"])}
        elif event["event"] == "ended":
            open_.pop((event["name"], event["index"]))
    return wrong


def test_ctrl_c_detaches_and_the_next_run_adopts_what_runs(slurm: Rehearsal, tmp_path: Path) -> None:
    shell = Shell(tmp_path, slurm, tokens="1x")  # training that outlasts the controller's leaving, on any machine
    first = shell.sweep("--quiet")
    wait_for(shell.training)
    first.send_signal(signal.SIGINT)
    _, err = said(first, 130)
    assert "leaving; the jobs live on" in err and "Run the same command to go on: it adopts them" in err
    live = shell.ask("squeue", "-h", "-r", "-t", "running,pending", "-o", "%j")
    assert "faults-t1-" in live, "the job runs on, though nobody watches it"
    said(shell.sweep("--quiet"))
    found = stages(tmp_path / "store")
    assert all(result for _, result in found.values())
    assert {attempts for attempts, _ in found.values()} == {1}, "nothing was asked to leave, nothing ran twice"
    assert submitted_twice(shell.folder) == []
    assert shell.state.exit_code == 0


def appointed(shell: Shell) -> str:
    """Hand the sweep to a Slurm job; return its id, once it submits."""
    job: str = json.loads(said(shell.sweep("--controller", "slurm", "--json"))[0])["controller"]["job"]
    _, err = said(shell.sweep("--controller", "slurm"), 5)
    assert f"controlled by Slurm job {job}" in err
    wait_for(lambda: shell.state.submissions)
    return job


def check_ended(shell: Shell, job: str, watcher: subprocess.Popen[str]) -> None:
    """The sweep ends, attach with it and the job after it; each stage was submitted once."""
    out, err = said(watcher)
    assert "ended with exit code 0" in err and f"controller Slurm job {job} (" in out
    found = stages(shell.folder / "store")
    assert found and all(result for _, result in found.values())
    assert submitted_twice(shell.folder) == []
    wait_for(lambda: not shell.ask("squeue", "-h", "-t", "running,pending,completing", "-j", job))
    assert (shell.folder / "store" / "sweeps" / "faults" / "report" / "report.html").exists()
    accounts = "sacct", "-n", "-X", "-P", "-j", job, "-o", "State,ExitCode"
    wait_for(lambda: not shell.ask(*accounts).startswith("RUNNING"))  # they are told after the queue
    assert shell.ask(*accounts).strip() == "COMPLETED|0:0"


def test_a_controllers_job_whose_node_dies_goes_on_elsewhere(repaired: Rehearsal, tmp_path: Path) -> None:
    """The former controller's process lives on beside its successor, as it may on a node that only lost its network."""
    shell = Shell(tmp_path, repaired)
    job = appointed(shell)
    watcher = shell.start("attach", "faults")
    wait_for(shell.training)
    node = shell.ask("squeue", "-h", "-j", job, "-o", "%N").strip()
    breaks(repaired, "kill-slurmd", node)
    breaks(repaired, "down", node)
    wait_for(lambda: shell.restart == 1)
    log = next((tmp_path / "store" / "sweeps" / "faults" / "controller").glob("*.log"))
    wait_for(lambda: f"taken over by Slurm job {job}" in log.read_text(encoding="utf-8"))
    breaks(repaired, "repair")
    check_ended(shell, job, watcher)


def test_from_the_login_node_a_sweep_whose_controller_is_a_job_is_seen_and_cancelled(
        slurm: Rehearsal, tmp_path: Path) -> None:
    shell = Shell(tmp_path, slurm, tokens="6x")  # training that does not end by itself meanwhile
    job = appointed(shell)
    wait_for(shell.training)
    out, _ = said(shell.start("status", "faults"))
    assert f"controller Slurm job {job} (RUNNING" in out
    said(shell.start("cancel", "--all", "faults"))
    wait_for(lambda: not shell.ask("squeue", "-h", "-t", "running,pending,completing"))
    out, _ = said(shell.start("status", "faults", "--line"))
    assert "1 cancelled" in out and shell.state.released and shell.state.cancelled
    assert not shell.state.failures and submitted_twice(shell.folder) == []


@pytest.mark.proof
def test_a_controllers_job_goes_back_into_the_queue_before_its_time_limit(slurm: Rehearsal, tmp_path: Path) -> None:
    shell = Shell(tmp_path, slurm, limit=1, arms="none, shuffle_dyck")
    job = appointed(shell)
    watcher = shell.start("attach", "faults")
    wait_for(lambda: shell.restart >= 1)
    assert shell.state.term == shell.restart + 2, "one term a start, and one of the submission"
    check_ended(shell, job, watcher)
    assert {attempts for attempts, _ in stages(tmp_path / "store").values()} == {1}
