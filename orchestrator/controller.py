"""Ray Tune is the controller: each trial of the grid is a Tune trial. The truth is on disk; Ray is never restored."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from orchestrator import ray_folder
from orchestrator.arguments import say
from orchestrator.plan import Planned
from orchestrator.progress import Progress, TrialEnd
from orchestrator.reconciler import Reconciler
from sweeps.errors import EnvironmentError_, PausedError
from sweeps.store.files import to_json
from sweeps.store.space import cause_of

LIVE_TRIALS = 2
"""Tune trials at once: each actor costs about 110 MB and two seconds of a core to start (docs/decisions.md)."""
RAY_TOKEN = secrets.token_hex(32)
"""Ray keeps the token of its first start in a process; another one would lock a second sweep out."""
RAY_STARTS = 3
"""Ray gives its own processes 30 s to come up: too little on a machine with ten times more to do than it can (seen)."""
INTERVAL_SECONDS = 0.25
"""Distance of the reconciler's passes on one machine."""


class ReconcilerThread(threading.Thread):
    """Runs the reconciler until everything has ended or a stop is asked for. Its error is raised by `join_or_raise`."""

    def __init__(self, reconciler: Reconciler, progress: Progress, trial_folder: Path,
                 on_end: Callable[[TrialEnd], None]) -> None:
        """`trial_folder` receives one small file per ended trial, for the Tune clients."""
        super().__init__(name="reconciler", daemon=True)
        self.reconciler = reconciler
        self.progress = progress
        self.trial_folder = trial_folder
        self.on_end = on_end
        self.stop_asked = threading.Event()
        self.leave_asked = threading.Event()
        """A person or the machine wants us to leave, and jobs that do not outlive us to checkpoint; set before
        `stop_asked`."""
        self.at_once = threading.Event()
        """And does not want to wait for them."""
        self.left = 0
        """Jobs that were still there when the controller left."""
        self.over = threading.Event()
        self.error: BaseException | None = None

    @property
    def detaches(self) -> bool:
        """True where the jobs live on when the controller leaves."""
        return self.reconciler.executor.detaches

    def run(self) -> None:
        """Reconcile in passes."""
        try:
            while not self.stop_asked.is_set() and not (self.progress.all_ended and not self.reconciler.leaving):
                self.reconciler.step()
                quiet = not self.progress.news
                for trial in self.progress.reopen():
                    (self.trial_folder / f"{trial}.json").unlink(missing_ok=True)
                for end in self.progress.update():
                    path = self.trial_folder / f"{end.id}.json"
                    path.write_text(to_json({"state": end.state, "reason": end.reason}), encoding="utf-8")
                    self.on_end(end)
                if quiet:  # else the next pass has something to do already
                    self.stop_asked.wait(INTERVAL_SECONDS)
            self.reconciler.unfollow()
        except BaseException as error:  # noqa: BLE001 - carried to the main thread, which raises it
            full = cause_of(error, self.trial_folder) if isinstance(error, OSError) else None
            self.error = full or error
        finally:
            self.over.set()
        asked = self.leave_asked.is_set() and not self.detaches
        if asked or isinstance(self.error, PausedError):  # beside Tune's and Ray's own ending
            try:
                self.left = self.reconciler.stop(self.reconciler.executor.leave_s, self.at_once)
            except Exception as error:  # noqa: BLE001 - carried to the main thread; the jobs may still be there
                self.error = self.error or error


def run_trials(planned: Planned, thread: ReconcilerThread) -> None:
    """Run every trial that is not complete as a Tune trial; return when all have ended or a stop was asked for."""
    if thread.progress.all_ended:
        if thread.reconciler.leaving:
            thread.start()
            thread.join()
            if thread.error is not None:
                raise thread.error
        return
    _environment()
    # Tune wakes for moments while the reconciler computes: with the default of 5 ms it would wait for the interpreter
    # lock most of the time (1,008 simulated trials: benchmarks/README.md).
    sys.setswitchinterval(0.0005)
    import ray

    temporary = ray_folder.make()
    handler = signal.getsignal(signal.SIGTERM)
    thread.start()
    try:
        _start_ray(temporary)
        signal.signal(signal.SIGTERM, handler)  # ray.init puts its own in its place, which ends the process
        _fit(planned, thread, temporary)
    except SystemExit:  # it came while that was in place: seen half a minute after our start, on a busy node
        signal.signal(signal.SIGTERM, handler)
        if not callable(handler):
            raise
        handler(signal.SIGTERM, None)
    finally:
        thread.stop_asked.set()
        try:
            ray.shutdown()
            shutil.rmtree(temporary, ignore_errors=True)
        finally:
            thread.join()
    if thread.error is not None:
        raise thread.error


def _start_ray(temporary: Path) -> None:
    """Start Ray's processes, whose files lie in `temporary`.

    Raises:
        EnvironmentError_: they did not come up.
    """
    import ray

    for left in reversed(range(RAY_STARTS)):
        try:
            ray.init(num_cpus=LIVE_TRIALS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
                     _temp_dir=str(temporary), _node_ip_address="127.0.0.1", object_store_memory=80 * 1024**2,
                     configure_logging=True)
            return
        except Exception as error:  # noqa: BLE001 - Ray raises what it likes; told, and raised after the last start
            for process in psutil.Process().children(recursive=True):  # of a half-started Ray
                with suppress(psutil.Error):
                    if str(temporary) in " ".join(process.cmdline()):
                        process.kill()
            if not left:
                raise EnvironmentError_(f"Ray Tune's processes did not come up in {RAY_STARTS} starts: {error} This "
                                        "machine has too much to do, or too little memory. Jobs that were submitted "
                                        "go on; run the same command again to adopt them") from error
            say(f"Ray Tune's processes did not come up ({error}); starting them once more")


def _environment() -> None:
    # Ray listens on every interface, and whoever may talk to it may run code: a secret of this run guards it.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = RAY_TOKEN
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def _fit(planned: Planned, thread: ReconcilerThread, temporary: Path) -> None:
    from ray import tune

    from orchestrator.search import Asked, LiveTrials
    from orchestrator.trainable import TrialClient

    progress = thread.progress
    stop_file = temporary / "stop"
    paths = {t.id: t.path for t in planned.file.trials}

    def config(trial: str) -> dict[str, Any]:
        return {
            "root": str(planned.layout.root), "trial": trial,
            "pretrain": [s.fingerprint for s in paths[trial] if s.kind == "pretrain"],
            "state_file": str(thread.trial_folder / f"{trial}.json"), "stop_file": str(stop_file),
        }

    search = LiveTrials(progress.next_live, thread.over.is_set, config)
    asked = Asked(lambda: thread.stop_asked.is_set() or thread.error is not None, stop_file)
    tune.Tuner(
        tune.with_resources(TrialClient, {"cpu": 1}),
        tune_config=tune.TuneConfig(search_alg=search, num_samples=-1,  # until `search` says FINISHED
                                    max_concurrent_trials=LIVE_TRIALS, reuse_actors=True),
        run_config=tune.RunConfig(name=planned.sweep.name, storage_path=str(temporary / "tune"), verbose=0, stop=asked,
                                  checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)),
    ).fit()
