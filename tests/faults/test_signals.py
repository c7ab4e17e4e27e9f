"""Asked to leave: by Ctrl-C, a second one, SIGTERM, and a terminal that is closed. Real training."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.live import ROOT, STARTED, Live, check_resumed, wait_for

pytestmark = pytest.mark.timeout(600)
LEAVE_SECONDS = 15.0


@pytest.mark.parametrize("number", [
    pytest.param(signal.SIGINT, marks=pytest.mark.proof),
    pytest.param(signal.SIGTERM, marks=pytest.mark.proof),
    pytest.param(signal.SIGHUP, marks=pytest.mark.proof),
])
def test_a_signal_lets_the_jobs_checkpoint_and_the_same_command_goes_on(
    tmp_path: Path, undisturbed: Undisturbed, number: signal.Signals
) -> None:
    live = Live(root=tmp_path)
    controller = live.start()
    wait_for(live.training, controller)
    [job] = live.jobs()
    controller.send_signal(number)
    began = time.monotonic()
    wait_for(lambda: job not in live.jobs())
    assert time.monotonic() - began < LEAVE_SECONDS
    _, said = controller.communicate(timeout=60)
    assert controller.returncode == 130
    assert "nothing is lost: run the same command to go on" in said
    check_resumed(live, undisturbed.live, interrupted=left_as_asked(tmp_path))


@pytest.mark.proof
def test_a_second_ctrl_c_leaves_at_once_and_the_jobs_are_adopted(tmp_path: Path, undisturbed: Undisturbed) -> None:
    live = Live(root=tmp_path)
    controller = live.start()
    wait_for(live.training, controller)
    controller.send_signal(signal.SIGINT)
    time.sleep(0.05)
    controller.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, said = controller.communicate(timeout=60)
    assert controller.returncode == 130, said
    assert time.monotonic() - began < LEAVE_SECONDS
    assert "Traceback" not in said
    check_resumed(live, undisturbed.live, interrupted=len(stopped(tmp_path)))


@pytest.mark.slow
def test_a_closed_terminal_lets_the_jobs_checkpoint_and_the_same_command_goes_on(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    live = Live(root=tmp_path)
    terminal, inside = pty.openpty()
    controller = subprocess.Popen(
        ["setsid", "--ctty", *live.command()], cwd=ROOT, stdin=inside, stdout=inside, stderr=inside,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )
    STARTED.append((controller, live))
    os.close(inside)
    os.set_blocking(terminal, False)
    wait_for(lambda: drained(terminal) and live.training())
    os.close(terminal)
    assert controller.wait(timeout=60) == 130
    assert live.jobs() == []
    check_resumed(live, undisturbed.live, interrupted=left_as_asked(tmp_path))


def stopped(root: Path) -> list[Path]:
    """Return the attempts that were stopped between two checkpoints' due times, and saved one because of it."""
    return [p.parent for p in root.glob("stages/*/*/attempts/1/stopped.json")]


def left_as_asked(root: Path) -> int:
    """Return how many attempts were cut short (none: the job was between two stages); each left a checkpoint."""
    assert all(list(p.glob("checkpoints/*/MANIFEST.json")) for p in stopped(root))
    logs = [p.read_text(encoding="utf-8") for p in root.glob("sweeps/*/submissions/*/*.err")]
    assert any("stopped as asked" in log or "asked to leave before" in log for log in logs)
    return len(stopped(root))


def drained(terminal: int) -> bool:
    """Read what the command drew, so that it does not wait for a reader; always true."""
    try:
        while os.read(terminal, 65_536):
            pass
    except BlockingIOError:
        pass
    return True
