"""What a person sees while a sweep runs: a live table on a terminal, one plain line per event elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from orchestrator.arguments import duration, say
from orchestrator.board import Status
from orchestrator.plan import Planned
from orchestrator.progress import Progress, TrialEnd
from orchestrator.reconciler import Notice, Reconciler
from orchestrator.watch import sweep_status

if TYPE_CHECKING:
    from rich.text import Text

REFRESH_SECONDS = 1.0
RESULTS_SECONDS = 20.0
"""The result table is recomputed this often: it reads all records."""


class Display(Protocol):
    """Receives events from the reconciler's thread."""

    def begin(self, progress: Progress, reconciler: Reconciler) -> None:
        """Start showing."""
        ...

    def notice(self, notice: Notice) -> None:
        """Something happened to a stage or a job."""
        ...

    def trial_ended(self, end: TrialEnd) -> None:
        """A trial ended."""
        ...

    def close(self) -> None:
        """Stop showing."""
        ...


def make_display(planned: Planned, *, quiet: bool) -> Display:
    """Return the live table on a terminal, plain lines elsewhere."""
    animated = sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb") and not quiet
    return LiveDisplay(planned) if animated else LineDisplay(planned, quiet=quiet)


def head(progress: Progress, reconciler: Reconciler) -> str:
    """Return the counts and the ETA in one line."""
    counts = progress.counts()
    total = len(progress.trials)
    stages = reconciler.board.counts()
    finished = sum(stages[s] for s in (Status.DONE, Status.DIVERGED))
    text = f"trials {counts['done']}/{total} done, {counts['running']} running"
    for name in ("failed", "diverged", "cancelled"):
        if counts[name]:
            text += f", {counts[name]} {name}"
    left = duration(reconciler.board.seconds_left(reconciler.slots))
    return f"{text} | stages {finished}/{sum(stages.values())} | ETA {left}"


class LineDisplay:
    """One plain line per event on stderr."""

    def __init__(self, planned: Planned, *, quiet: bool) -> None:
        """`quiet`: only failures."""
        self._quiet = quiet
        self._began = time.monotonic()
        self._state: tuple[Progress, Reconciler] | None = None

    def begin(self, progress: Progress, reconciler: Reconciler) -> None:
        """Say what is left."""
        self._state = (progress, reconciler)
        if not self._quiet:
            self._line(head(progress, reconciler))

    def notice(self, notice: Notice) -> None:
        """Print the event; a finished stage only with the running counts."""
        if not self._quiet or notice.kind in ("failed", "lost"):
            self._line(f"{notice.kind:<9} {notice.text}")

    def trial_ended(self, end: TrialEnd) -> None:
        """Print the trial and the counts."""
        if self._state is not None and (not self._quiet or end.state == "failed"):
            reason = f" - {end.reason}" if end.reason else ""
            self._line(f"trial     {end.id}: {end.state}{reason} | {head(*self._state)}")

    def close(self) -> None:
        """Nothing to undo."""

    def _line(self, text: str) -> None:
        say(f"[{time.monotonic() - self._began:7.1f} s] {text}")


class LiveDisplay:
    """Counts, running stages, last events, and the result table as it fills in."""

    def __init__(self, planned: Planned) -> None:
        """Draws on stderr, so that stdout stays clean."""
        from rich.console import Console
        from rich.live import Live

        self._planned = planned
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._events: deque[str] = deque(maxlen=5)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="live-table", daemon=True)
        self._results = ""
        self._results_at = 0.0
        self._state: tuple[Progress, Reconciler] | None = None
        self._began = time.monotonic()

    def begin(self, progress: Progress, reconciler: Reconciler) -> None:
        """Start drawing."""
        self._state = (progress, reconciler)
        self._live.start()
        self._thread.start()

    def notice(self, notice: Notice) -> None:
        """Keep the event for the next drawing; failures stay on the screen."""
        self._events.append(f"{notice.kind:<9} {notice.text}")
        if notice.kind == "failed":
            with suppress(OSError):
                self._live.console.print(f"failed: {notice.text}", style="red", markup=False)

    def trial_ended(self, end: TrialEnd) -> None:
        """Keep the event for the next drawing."""
        self._events.append(f"trial     {end.id}: {end.state}")

    def close(self) -> None:
        """Stop drawing and clear the table."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(OSError):
            self._live.stop()

    def _draw(self) -> None:
        with suppress(OSError):  # the terminal was closed; the sweep leaves in order without it
            while not self._stop.wait(REFRESH_SECONDS):
                self._live.update(self._text(), refresh=True)

    def _text(self) -> Text:
        assert self._state is not None
        progress, reconciler = self._state
        status = sweep_status(self._planned.layout, self._planned.sweep.name)
        speeds = [float(r["tokens_per_second"]) for r in status.running if r["tokens_per_second"] is not None]
        lines = [
            f"{self._planned.sweep.name}  {duration(time.monotonic() - self._began)}  {sum(speeds):,.0f} tokens/s",
            head(progress, reconciler), "",
        ]
        lines += [f"  running   {str(r['label'])[:46]:<46} {r['tokens']:>10,}" for r in status.running[:6]]
        lines += ["", *(f"  {e}" for e in self._events)]
        if progress.counts()["done"] and time.monotonic() - self._results_at > RESULTS_SECONDS:
            self._results = self._table()
            self._results_at = time.monotonic()
        from rich.text import Text

        width, height = self._console.size
        lines += ["", *self._results.splitlines()[: max(height - len(lines) - 2, 0)]]
        return Text("\n".join(line[: width - 1] for line in lines[: height - 1]))

    def _table(self) -> str:
        from analysis import terminal

        return str(terminal.terminal_text(self._planned.layout.root, self._planned.sweep.name))
