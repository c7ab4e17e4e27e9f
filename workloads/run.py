"""The only door of a job: `python -m workloads.run TICKET` runs the ticket's stages one after another.

Light until a stage needs more: importing this costs pydantic, and each stage imports its own libraries once. Truth is
on disk: a stage that is done, is claimed by another submission, or lacks an input is left alone, so that running a
ticket again is always safe. Exit code 1: a stage failed; its attempt says why in failure.json. Exit code 6: there is no
space to write; nothing failed, and the ticket goes on from the last checkpoint when it is run again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path
from types import FrameType

from sweeps.errors import OrchestratorError, StorageError, UsageError
from sweeps.language.plugins import Registries
from sweeps.language.stage import Ticket, TicketStage
from sweeps.store import claims, files, space
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.records import Attempt, open_attempt, read_result
from workloads.context import Context
from workloads.provenance import versions
from workloads.ranks import LEAVE, NOT_RUN, Follower, Ranks
from workloads.registry import load_registries
from workloads.watchdog import Pulse, Watchdog, unwatched

TRACEBACK_LINES = 30
MESSAGE_CHARS = 2_000
SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""Both ask to leave: Slurm's early signal and its own, the local executor's, a person's."""

log = logging.getLogger("workloads.run")


class Outcome(Enum):
    """How a stage of the ticket ended here."""

    DONE = auto()
    LEFT = auto()
    FAILED = auto()
    STOPPED = auto()
    PAUSED = auto()
    """There is no space to write; no other stage of the ticket would fare better."""


class Stop:
    """True once a signal asked the job to leave."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self._asked = False

    def __call__(self) -> bool:
        """Tell whether the job was asked to leave."""
        return self._asked

    def ask(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Ask; also the signal handler."""
        self._asked = True

    def install(self) -> None:
        """Take the signals, those included that `cluster.launch` held back while this was being imported."""
        for number in SIGNALS:
            signal.signal(number, self.ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Runs the stages of one ticket."""

    ticket: Ticket
    registries: Registries
    ranks: Ranks
    should_stop: Callable[[], bool]
    watch: Callable[[Path], AbstractContextManager[Pulse]] = unwatched
    """Given an attempt's folder, watches that its stage goes on."""

    def run(self) -> int:
        """Run every stage that can run; return the exit code."""
        failed = False
        for position, stage in enumerate(self.ticket.stages):
            outcome = self._follow(position, stage) if not self.ranks.leads else self._lead(position, stage)
            if outcome is Outcome.PAUSED:
                return StorageError.exit_code
            failed = failed or outcome is Outcome.FAILED
            if outcome is Outcome.STOPPED or (failed and self.ranks.size > 1):  # a process group broke with its rank
                break
        return int(failed)

    def _lead(self, position: int, stage: TicketStage) -> Outcome:
        folder = self._folder(stage)
        if self.should_stop():
            self.ranks.announce(position, LEAVE)
            log.info("asked to leave before %s", _name(stage))
            return Outcome.STOPPED
        if reason := self._why_not(stage, folder):
            self.ranks.announce(position, NOT_RUN)
            log.info("%s: %s", _name(stage), reason)
            return Outcome.LEFT
        files.create(folder.spec, stage.spec.to_text(), durable=files.Durable.CONTENT)  # the result syncs the folder
        attempt = open_attempt(folder, self._execution(), claim=stage.claim)
        self.ranks.announce(position, attempt.folder.number)
        log.info("%s: attempt %d", _name(stage), attempt.folder.number)
        return self._attempt(stage, attempt)

    def _follow(self, position: int, stage: TicketStage) -> Outcome:
        number = self.ranks.await_attempt(position)
        if number in (NOT_RUN, LEAVE):
            return Outcome.LEFT if number == NOT_RUN else Outcome.STOPPED
        folder = self._folder(stage)
        return self._attempt(stage, Follower(folder, folder.attempt(number)))

    def _why_not(self, stage: TicketStage, folder: StageFolder) -> str:
        """Return why the stage is not to be run here, or the empty string."""
        if read_result(folder) is not None:
            return "is done"
        held = claims.holder(folder)
        if held is None or held.submission != self.ticket.submission or held.number > stage.claim:
            return f"left to {held.submission if held else 'whoever claims it'}"
        for needed in stage.spec.inputs:
            result = read_result(Layout(Path(self.ticket.root)).stage(needed.kind, needed.fingerprint))
            if result is None or result.status != "done":
                what = "is not complete" if result is None else result.status
                return f"skipped: its input {needed.role} ({needed.kind}/{needed.fingerprint}) {what}"
        return ""

    def _attempt(self, stage: TicketStage, attempt: Attempt) -> Outcome:
        with self.watch(attempt.folder.path) as pulse, closing(attempt):
            return self._run_stage(stage, attempt, pulse)

    def _run_stage(self, stage: TicketStage, attempt: Attempt, pulse: Pulse) -> Outcome:
        from workloads.contract import Diverged, Stopped  # imports NumPy, which stages that are skipped do not need

        started = time.monotonic()
        try:
            context = Context(
                stage, ticket=self.ticket, registries=self.registries, attempt=attempt, pulse=pulse,
                should_stop=lambda: self.should_stop() or bool(attempt.superseded()),
            )
            try:
                scores = self.registries.stages.find(stage.spec.kind).load()(context)
                status = "done"
            except Diverged as reason:
                log.info("%s: diverged: %s", _name(stage), reason)
                scores, status = {}, "diverged"
            pulse.slow()
            if self.ranks.leads and not attempt.commit(scores, status=status, seconds=time.monotonic() - started):
                log.info("%s: another attempt was committed before this one", _name(stage))
            return Outcome.STOPPED if attempt.restarted() else Outcome.DONE
        except Stopped:
            if successor := attempt.superseded(now=True):
                log.info("%s: left: %s", _name(stage), successor)
                if self.ranks.size == 1 and not self.should_stop() and not attempt.restarted():
                    return Outcome.LEFT  # the ticket's other stages are still this job's
            else:
                self._note(attempt, attempt.folder.stopped.name, {"reason": "asked to leave"})
                log.info("%s: stopped as asked", _name(stage))
            return Outcome.STOPPED
        except Exception as error:  # noqa: BLE001 - whatever a stage raises is a fact about it; the others go on
            return self._failed(stage, attempt, error)

    def _failed(self, stage: TicketStage, attempt: Attempt, error: Exception) -> Outcome:
        """Leave failure.json, where there is space for it; for want of space is no failure of the stage."""
        full = space.cause_of(error, attempt.folder.path)
        with suppress(StorageError, OSError):  # the log has it all the same
            self._note(attempt, attempt.folder.failure.name, failure(full or error))
        if full is not None:
            log.error("%s: paused: %s", _name(stage), full)
            return Outcome.PAUSED
        log.error("%s: failed\n%s", _name(stage), _traceback(error))
        return Outcome.FAILED

    def _note(self, attempt: Attempt, name: str, content: dict[str, object]) -> None:
        """Leave a file in the attempt; other ranks put their number into its name."""
        path = attempt.folder.path / name
        if not self.ranks.leads:
            path = path.with_suffix(f".{self.ranks.rank}.json")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        files.create(path, files.to_json({"schema_version": files.SCHEMA_VERSION, "time": now, **content}))

    def _execution(self) -> dict[str, object]:
        return {
            "host": socket.gethostname(), "pid": os.getpid(), "sweep": self.ticket.sweep, "ranks": self.ranks.size,
            "submission": self.ticket.submission, "layout": self.ticket.execution.model_dump(), "versions": versions(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _folder(self, stage: TicketStage) -> StageFolder:
        return Layout(Path(self.ticket.root)).stage(stage.spec.kind, stage.spec.fingerprint)


def failure(error: Exception) -> dict[str, object]:
    """Return what failure.json says of an exception."""
    return {
        "class": type(error).__name__, "message": _clean(str(error))[:MESSAGE_CHARS],
        "traceback": _traceback(error).splitlines()[-TRACEBACK_LINES:],
    }


def _traceback(error: Exception) -> str:
    return _clean("".join(traceback.format_exception(error)))


def _clean(text: str) -> str:
    """Return text that UTF-8 can hold: a file name may bring half a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode()


def _name(stage: TicketStage) -> str:
    return f"{stage.spec.kind}/{stage.spec.fingerprint}"


def read_ticket(path: Path) -> Ticket:
    """Read a ticket file.

    Raises:
        UsageError: it cannot be read or is no ticket.
    """
    try:
        return Ticket.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no ticket: {error}") from error


def main(arguments: Sequence[str]) -> int:
    """Run the ticket named by the one argument; return the exit code. Once only: ranks that have left stay apart."""
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    stop = Stop()
    stop.install()
    try:
        if len(arguments) != 1:
            raise UsageError("usage: python -m workloads.run TICKET")
        ticket = read_ticket(Path(arguments[0]))
        ranks = Ranks.of(os.environ, Layout(Path(ticket.root)).sweep(ticket.sweep).submissions / ticket.submission)
        registries = load_registries([Path(p) for p in ticket.plugins])
        watchdog = Watchdog(floor_s=ticket.execution.hang_floor_seconds, rank=ranks.rank, ranks=ranks.size)
        with closing(watchdog):
            code = Runner(ticket=ticket, registries=registries, ranks=ranks, should_stop=stop,
                          watch=watchdog.watch).run()
        process = sys.modules.get("workloads.training.process")  # loaded by a stage that trains
        if process and not code:  # others may still wait for a rank that did not come through
            process.leave()
        return code
    except OrchestratorError as error:
        log.error("%s", error)
        return error.exit_code
    finally:
        _flush()


def _flush() -> None:
    """Drop what the logs could not take (on a full disk): Python would exit with 120 for it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
