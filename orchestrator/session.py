"""One run of `orchestrator sweep`: take the sweep, run what is missing, leave a report."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from orchestrator.arguments import say
from orchestrator.clusters import executor_of, keep_simulations_apart
from orchestrator.controller import LEAVE_SECONDS, ReconcilerThread, run_trials
from orchestrator.live_table import Display, make_display
from orchestrator.plan import Planned
from orchestrator.progress import Progress, TrialEnd
from orchestrator.reconciler import Reconciler
from orchestrator.snapshot import with_snapshot
from sweeps.store import files
from sweeps.store.layout import SweepFolder
from sweeps.store.ledger import begin_term


def run_sweep(planned: Planned, *, takeover: bool, quiet: bool = False) -> tuple[Progress, bool]:
    """Run what is missing of a sweep; return the trials' ends, and whether it was interrupted.

    Raises:
        OwnedError: another controller owns the sweep, or took it over.
        PausedError: there is no space; what ran was asked to checkpoint and leave.
    """
    keep_simulations_apart(planned.sweep.run, planned.layout)
    folder = planned.layout.sweep(planned.sweep.name)
    ledger, state = begin_term(folder, takeover=takeover)
    thread: ReconcilerThread | None = None
    try:
        _record(planned, folder)
        planned = with_snapshot(planned)
        executor = executor_of(planned.sweep.run, planned.layout)
        display = make_display(planned, quiet=quiet)
        reconciler = Reconciler(planned, executor, ledger, state, display.notice)
        progress = Progress(planned.file.trials, reconciler.board)
        if state.damaged:
            say(f"{state.damaged} torn lines of the ledger were passed over: a controller was killed while writing")
        trial_folder = folder.path / "trials"
        trial_folder.mkdir(exist_ok=True)
        for old in trial_folder.iterdir():
            old.unlink()
        thread = ReconcilerThread(reconciler, progress, trial_folder, display.trial_ended)
        display.begin(progress, reconciler)
        interrupted = _run(planned, thread, display)
        if interrupted:
            _say_what_is_left(thread)
        return progress, interrupted
    finally:
        ledger.close(release=thread is None or not thread.is_alive())  # impatience may leave it in a call


def _record(planned: Planned, folder: SweepFolder) -> None:
    overrides = "".join(f"# --set {text}\n" for text in planned.overrides.texts())
    files.replace(folder.sweep_file, planned.text.rstrip("\n") + "\n" + overrides)
    files.replace(folder.plan, planned.file.model_dump_json())


def _run(planned: Planned, thread: ReconcilerThread, display: Display) -> bool:
    """Run the trials with Ctrl-C, SIGTERM and SIGHUP meaning: checkpoint and leave."""
    interrupted = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted and number == signal.SIGHUP:
            return  # a closed terminal hangs up more than once
        if interrupted:
            thread.at_once.set()
            raise KeyboardInterrupt
        interrupted = True
        thread.leave_asked.set()
        thread.stop_asked.set()
        say(f"\n{signal.Signals(number).name}: asking the jobs to checkpoint; again to leave at once")

    with _handlers(ask):
        try:
            run_trials(planned, thread)
        finally:
            display.close()
    return interrupted


@contextmanager
def _handlers(handler: object) -> Iterator[None]:
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
               if signal.getsignal(n) is not signal.SIG_IGN]  # nohup means it
    old = {n: signal.signal(n, handler) for n in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)


def _say_what_is_left(thread: ReconcilerThread) -> None:
    if thread.left:
        say(f"{thread.left} jobs were still there after {LEAVE_SECONDS:.0f} s; they are adopted when you run the same "
            "command again")
    else:
        say("all jobs have left; nothing is lost: run the same command to go on")


def failures(progress: Progress) -> list[TrialEnd]:
    """Return the trials that failed."""
    return [end for end in progress.ended.values() if end.state == "failed"]


def report_path(planned: Planned) -> Path:
    """Return where the report is written."""
    return planned.layout.sweep(planned.sweep.name).report
