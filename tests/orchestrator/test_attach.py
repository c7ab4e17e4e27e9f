"""Watching a sweep until its controller ends, from the records alone."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from orchestrator.commands import attach
from orchestrator.plan import Planned
from sweeps.store.ledger import Ledger, begin_term
from tests.orchestrator.plans import planned
from tests.orchestrator.verb_stores import called, run


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "INTERVAL_SECONDS", 0.02)


def controlled(plan: Planned) -> Ledger:
    """Let this process own the sweep, and nothing run."""
    run(plan, steps=0)
    return begin_term(plan.layout.sweep("t"))[0]


@pytest.mark.parametrize("code, words", [
    (0, "all done"), (3, "some trials failed"), (6, "paused"), (130, "its controller left as asked"), (1, "an error")])
def test_it_ends_with_the_controllers_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int, words: str
) -> None:
    ledger = controlled(planned(tmp_path))
    threading.Timer(1.0, lambda: ledger.close(exit_code=code)).start()
    began = time.monotonic()
    found, out, err = called(capsys, "attach", "t", "--root", tmp_path)
    assert found == code and f"ended with exit code {code}: {words}" in err
    assert time.monotonic() - began >= 0.9
    assert out.count("controller pid ") == 1, "what did not change is not printed again"
    assert out.count("no controller alive") == 1


def test_a_sweep_that_ended_before_is_shown_with_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    controlled(planned(tmp_path)).close(exit_code=3)
    code, out, _ = called(capsys, "attach", "t", "--root", tmp_path, "--json")
    assert code == 3
    assert json.loads(out)["exit_code"] == 3


def test_a_controller_that_left_no_word_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    controlled(planned(tmp_path)).close()
    code, _, err = called(capsys, "attach", "t", "--root", tmp_path)
    assert code == 4 and "has no controller" in err


def test_ctrl_c_leaves_the_sweep_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = controlled(planned(tmp_path))

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attach.time, "sleep", interrupted)
    code, _, err = called(capsys, "attach", "t", "--root", tmp_path)
    assert code == 0 and "the sweep goes on" in err
    ledger.append("release", exit_code=0)  # it is still open
