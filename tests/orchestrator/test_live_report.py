"""The report that is rebuilt while a sweep runs, and that it can neither hold up nor fail the sweep."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator import live_report, session
from orchestrator.live_report import rebuilding
from sweeps.store.layout import Layout
from tests.analysis.conftest import ARMS, SweepBuilder

PATIENCE_SECONDS = 120.0
"""Machines are shared: how long something that must happen may take."""


def until(happened: Callable[[], bool]) -> None:
    """Wait until something has happened."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < ends, "it never happened"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(live_report, "EVERY_SECONDS", 0.05)


def run(root: Path, meanwhile: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a session whose trials are what happens meanwhile."""
    monkeypatch.setattr(session, "run_trials", lambda planned, thread: meanwhile())
    planned = SimpleNamespace(layout=Layout(root), sweep=SimpleNamespace(name="demo"))
    return session._run(cast(Any, planned), cast(Any, None), cast(Any, SimpleNamespace(close=lambda: None)))


def test_a_running_sweep_has_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = SweepBuilder(tmp_path / "store", arms=ARMS[:2], domains=("web",)).build()
    page = Layout(root).sweep("demo").report / "report.html"
    assert run(root, lambda: until(page.exists), monkeypatch) is False


def test_one_that_hangs_ends_with_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def hanging(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(["sleep", "3600"], **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", hanging)
    assert run(tmp_path, lambda: until(lambda: bool(started)), monkeypatch) is False
    assert len(started) == 1 and started[0].returncode == -9


@pytest.mark.parametrize("report", [["/nowhere/at-all"], ["false"]], ids=["cannot start", "fails"])
def test_one_that_fails_fails_nothing_and_is_tried_again(
    report: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tries: list[int] = []
    popen = subprocess.Popen

    def failing(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        tries.append(1)
        return popen(report, **options)

    monkeypatch.setattr(subprocess, "Popen", failing)
    assert run(tmp_path, lambda: until(lambda: len(tries) > 1), monkeypatch) is False
    assert capfd.readouterr() == ("", "")


def test_inside_a_slurm_job_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(live_report, "_rebuild", lambda *args: pytest.fail("a report was begun"))
    with rebuilding(Layout(tmp_path), "demo"):
        time.sleep(0.2)


def test_it_has_the_lowest_priority(tmp_path: Path) -> None:
    assert live_report.command(Layout(tmp_path), "demo")[:3] == ["nice", "-n", "19"]
