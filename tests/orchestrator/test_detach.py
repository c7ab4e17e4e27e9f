"""Asked to leave: jobs of this machine leave with the controller, a cluster's live on and are adopted."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from cluster.executors.memory import MemoryExecutor
from orchestrator import session
from orchestrator.board import Status
from orchestrator.controller import ReconcilerThread
from orchestrator.live_table import LineDisplay
from orchestrator.progress import Progress
from orchestrator.reconciler import Reconciler
from sweeps.errors import StorageError
from sweeps.store.ledger import begin_term
from tests.orchestrator.plans import planned


def reign(root: Path, executor: MemoryExecutor, *, full: bool = False) -> ReconcilerThread:
    """Reconcile until something runs, then leave: as asked, or because there is no space."""
    plan = planned(root)
    ledger, state = begin_term(plan.layout.sweep("t"))
    reconciler = Reconciler(plan, executor, ledger, state, lambda notice: None)
    (root / "trials").mkdir(exist_ok=True)
    thread = ReconcilerThread(reconciler, Progress(plan.file.trials, reconciler.board), root / "trials",
                              lambda end: None)
    submitted, step = threading.Event(), reconciler.step

    def watched() -> None:
        step()
        if full:
            raise StorageError("full")
        submitted.set()

    reconciler.step = watched  # type: ignore[method-assign]
    thread.start()
    if not full:
        assert submitted.wait(20)
        thread.leave_asked.set()
        thread.stop_asked.set()
    thread.join(20)
    assert not thread.is_alive()
    ledger.close()
    return thread


def test_a_signal_that_comes_while_ray_starts_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**_: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as Ray's own does
        assert submitted.wait(20)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the handler has ended this")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    submitted = threading.Event()
    plan, executor = planned(tmp_path), MemoryExecutor(slots=2, seconds=math.inf, detaches=True)
    ledger, state = begin_term(plan.layout.sweep("t"))
    reconciler = Reconciler(plan, executor, ledger, state, lambda notice: submitted.set())
    thread = ReconcilerThread(reconciler, Progress(plan.file.trials, reconciler.board), tmp_path, lambda end: None)
    assert session._run(plan, thread, LineDisplay(plan, quiet=True))
    assert not thread.is_alive() and executor.slots_free() == 0
    ledger.close()


def running(thread: ReconcilerThread) -> set[str]:
    return {k for k, status in thread.reconciler.board.status.items() if status is Status.RUNNING}


def test_a_clusters_jobs_live_on_and_the_next_run_adopts_them(tmp_path: Path) -> None:
    executor = MemoryExecutor(slots=2, seconds=math.inf, detaches=True)
    first = reign(tmp_path, executor)
    assert running(first) and executor.submissions == 1 and executor.slots_free() == 0
    second = reign(tmp_path, executor)
    assert running(second) == running(first)
    assert executor.submissions == 1, "adopted, and nothing submitted twice"


def test_jobs_of_this_machine_leave_with_the_controller(tmp_path: Path) -> None:
    executor = MemoryExecutor(slots=2, seconds=math.inf)
    assert reign(tmp_path, executor).left == 0
    assert executor.slots_free() == 2


@pytest.mark.parametrize("detaches", [True, False])
def test_a_pause_asks_the_jobs_to_leave_wherever_they_run(tmp_path: Path, detaches: bool) -> None:
    executor = MemoryExecutor(slots=2, seconds=math.inf, detaches=detaches)
    thread = reign(tmp_path, executor, full=True)
    assert isinstance(thread.error, StorageError)
    assert executor.submissions == 1 and executor.slots_free() == 2
