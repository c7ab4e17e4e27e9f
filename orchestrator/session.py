"""One run of `orchestrator sweep`: take the sweep, run what is missing, leave a report."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from orchestrator.arguments import say
from orchestrator.board import Status
from orchestrator.clusters import executor_of, keep_simulations_apart
from orchestrator.controller import ReconcilerThread, run_trials
from orchestrator.live_report import rebuilding
from orchestrator.live_table import Display, make_display
from orchestrator.ownership import begin
from orchestrator.plan import Planned
from orchestrator.progress import Progress, TrialEnd
from orchestrator.reconciler import Reconciler
from orchestrator.snapshot import with_snapshot
from sweeps.errors import OrchestratorError
from sweeps.store import files
from sweeps.store.layout import SweepFolder
from sweeps.store.owner import SlurmJob

FAILED, INTERRUPTED = 3, 130
"""Exit codes: some trials failed; a person or the machine asked the controller to leave."""


def run_sweep(planned: Planned, *, takeover: bool, quiet: bool = False) -> tuple[Progress, bool]:
    """Run what is missing of a sweep; return the trials' ends, and whether it was interrupted.

    Raises:
        OwnedError: another controller owns the sweep, or took it over.
        PausedError: there is no space; what ran was asked to checkpoint and leave.
    """
    keep_simulations_apart(planned.sweep.run, planned.layout)
    folder = planned.layout.sweep(planned.sweep.name)
    ledger, state = begin(folder, takeover=takeover)
    thread: ReconcilerThread | None = None
    code: int = OrchestratorError.exit_code
    try:
        record(planned, folder)
        planned = with_snapshot(planned)
        executor = executor_of(planned.sweep.run, planned.layout)
        named = planned.sweep.run.cluster if executor.detaches else ""
        if named != state.cluster:
            ledger.append("cluster", profile=named)
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
            _say_what_is_left(planned.sweep.name, thread)
        code = INTERRUPTED if interrupted else FAILED if failures(progress) else 0
        return progress, interrupted
    except BaseException as error:
        code = INTERRUPTED if isinstance(error, KeyboardInterrupt | SystemExit) else getattr(error, "exit_code", code)
        raise
    finally:
        # Impatience may leave the thread in a call; and a Slurm job stays the owner until its next start.
        ended = thread is None or not thread.is_alive()
        ledger.close(release=ended and not (code == INTERRUPTED and SlurmJob.mine()), exit_code=code)


def record(planned: Planned, folder: SweepFolder) -> None:
    """Write the sweep file, as it was given, and the plan into the sweep's folder."""
    overrides = "".join(f"# --set {text}\n" for text in planned.overrides.texts())
    files.replace(folder.sweep_file, planned.text.rstrip("\n") + "\n" + overrides)
    files.replace(folder.plan, planned.file.model_dump_json())


def _run(planned: Planned, thread: ReconcilerThread, display: Display) -> bool:
    """Run the trials with Ctrl-C, SIGTERM and SIGHUP meaning: leave; jobs on this machine checkpoint and leave too."""
    interrupted = False
    inside_a_job = SlurmJob.mine() is not None

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted and (number == signal.SIGHUP or inside_a_job):
            return  # a closed terminal hangs up more than once, and Slurm signals the shell and us
        if interrupted:
            thread.at_once.set()
            raise KeyboardInterrupt
        interrupted = True
        thread.leave_asked.set()
        thread.stop_asked.set()
        what = "leaving; the jobs live on" if thread.detaches else "asking the jobs to checkpoint"
        say(f"\n{signal.Signals(number).name}: {what}{'' if inside_a_job else '; again to leave at once'}")

    with _handlers(ask), rebuilding(planned.layout, planned.sweep.name):
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


def _say_what_is_left(sweep: str, thread: ReconcilerThread) -> None:
    if SlurmJob.mine():
        say("the sweep stays this Slurm job's: its next start goes on, and adopts the jobs that live")
    elif thread.detaches:
        live = sum(status is Status.RUNNING for status in thread.reconciler.board.status.values())
        say(f"left the cluster's jobs alone: {live} stages are queued or running there, and live on. Run the same "
            f"command to go on: it adopts them. To end them: orchestrator cancel --all {sweep}")
    elif thread.left:
        say(f"{thread.left} jobs were still there after {thread.reconciler.executor.leave_s:.0f} s; they are adopted "
            "when you run the same command again")
    else:
        say("all jobs have left; nothing is lost: run the same command to go on")


def failures(progress: Progress) -> list[TrialEnd]:
    """Return the trials that failed."""
    return [end for end in progress.ended.values() if end.state == "failed"]
