"""What a person sees while a sweep runs: a live table on a terminal, one plain line per event elsewhere."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.arguments import duration, say
from orchestrator.board import Board, Status
from orchestrator.plan import Planned
from orchestrator.progress import Progress, TrialEnd
from orchestrator.reconciler import Notice, Reconciler
from orchestrator.watch import last_row
from sweeps.store.layout import Layout
from sweeps.store.records import newest_attempt

if TYPE_CHECKING:
    from rich.text import Text

REFRESH_SECONDS = 1.0
RESULTS_SECONDS = 20.0
"""The result table is recomputed at most this often, and only when a trial has ended: it reads all records."""
RUNNING, EVENTS, FEW_EVENTS = 6, 5, 3
"""Running stages and last events that are listed; FEW_EVENTS where the window has under LOW lines."""
LOW, BAR = 32, 30
STYLES = {"done": "green", "failed": "bold red", "lost": "red", "diverged": "yellow", "withheld": "yellow",
          "submitted": "cyan", "restarted": "red", "waits": "yellow"}
"""Of the word that an event begins with."""


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
    for name in ("failed", "diverged", "withheld", "cancelled"):
        if counts[name]:
            text += f", {counts[name]} {name}"
    left = duration(reconciler.board.seconds_left(reconciler.slots))
    return f"{text} | stages {finished}/{sum(stages.values())} | ETA {left}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A stage that runs now."""

    label: str
    tokens: int
    """So far, within its run; 0 where it does not train, or has written no row yet."""
    end_tokens: int
    """0 where it does not train."""
    tokens_per_second: float


def running(layout: Layout, board: Board) -> list[Row]:
    """Return the stages that run, from the board and their newest rows: never the whole store, once a second."""
    found = []
    for key in [k for k, status in list(board.status.items()) if status is Status.RUNNING]:
        node = board.graph.nodes[key]
        stage = layout.stage(node.spec.kind, key)
        if not newest_attempt(stage):
            continue  # submitted: its job has not come to it yet
        last = last_row(stage)
        segment = node.spec.sections.get("segment")
        found.append(Row(
            label=node.label, tokens=int(last.get("tokens", 0)),
            end_tokens=int(segment.values["end_tokens"]) if segment else 0,
            tokens_per_second=float(last.get("values", {}).get("tokens_per_second") or 0.0),
        ))
    return found


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
        if not self._quiet or notice.kind in ("failed", "lost", "waits"):
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
        self._events: deque[tuple[str, str]] = deque(maxlen=EVENTS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="live-table", daemon=True)
        self._results: list[tuple[bool, list[str]]] = []
        """Whether a part is shown whole or not at all, and its lines."""
        self._results_at = 0.0
        self._results_of = 0
        self._state: tuple[Progress, Reconciler] | None = None
        self._began = time.monotonic()

    def begin(self, progress: Progress, reconciler: Reconciler) -> None:
        """Start drawing."""
        self._state = (progress, reconciler)
        self._live.start()
        self._thread.start()

    def notice(self, notice: Notice) -> None:
        """Keep the event for the next drawing; failures stay on the screen."""
        self._events.append((notice.kind, notice.text))
        if notice.kind == "failed":
            with suppress(OSError):
                self._live.console.print(f"failed: {notice.text}", style="red", markup=False)

    def trial_ended(self, end: TrialEnd) -> None:
        """Keep the event for the next drawing."""
        self._events.append((end.state, f"trial {end.id}"))

    def close(self) -> None:
        """Stop drawing and clear the table."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(OSError):
            self._live.stop()

    def _draw(self) -> None:
        try:
            while not self._stop.wait(REFRESH_SECONDS):
                self._live.update(self._text(), refresh=True)
        except OSError:
            pass  # the terminal was closed; the sweep leaves in order without it
        except Exception as error:  # noqa: BLE001 - the sweep goes on without its picture
            say(f"the live table stopped ({error!r}); the sweep goes on: orchestrator status --watch")

    def _text(self) -> Text:
        from rich.text import Text

        assert self._state is not None
        progress, reconciler = self._state
        width, height = self._console.size
        lines = [*self._head(progress, reconciler, width), Text("")]
        events = list(self._events)[-(FEW_EVENTS if height < LOW else EVENTS):]
        lines += [Text.assemble("  ", (f"{kind:<10}", STYLES.get(kind, "")), text) for kind, text in events]
        self._refresh(progress, min(width, 80))
        for whole, part in self._results:
            if whole and len(lines) + len(part) >= height:
                break  # half a sentence says nothing
            lines += map(Text, part)
        for line in lines:
            line.truncate(width - 1)
        return Text("\n").join(lines[: height - 1])

    def _head(self, progress: Progress, reconciler: Reconciler, width: int) -> Iterator[Text]:
        from rich.text import Text

        rows = running(self._planned.layout, reconciler.board)
        counts, stages = progress.counts(), reconciler.board.counts()
        left = f"about {duration(reconciler.board.seconds_left(reconciler.slots))} left"
        yield Text.assemble((self._planned.sweep.name, "bold"),
                            f"  {duration(time.monotonic() - self._began)}, "
                            f"{'every trial has ended' if progress.all_ended else left}")
        words = [f"{counts[k]} {word}" for k, word in (
            ("running", "begun"), ("waiting", "waiting"), ("failed", "failed"), ("diverged", "diverged"),
            ("withheld", "withheld"), ("cancelled", "cancelled")) if counts[k]]
        yield self._bar("trials", counts["done"], len(progress.trials), ", ".join(words))
        ended = sum(stages[s] for s in (Status.DONE, Status.DIVERGED))
        yield self._bar("stages", ended, sum(stages.values()), f"{len(rows)} running")
        if rows:
            yield Text("")
        room = max(min(width, 90) - 36, 20)
        for row in rows[:RUNNING]:
            speed = f"{row.tokens_per_second:,.0f} tokens/s" if row.tokens_per_second else ""
            share = f"{100 * row.tokens / row.end_tokens:>4.0f} %" if row.end_tokens and row.tokens else " " * 6
            yield Text.assemble("  ", (f"{'running':<10}", "cyan"), f"{row.label[:room]:<{room}}{share}{speed:>16}")
        if len(rows) > RUNNING:
            yield Text(f"  and {len(rows) - RUNNING} more")

    def _bar(self, name: str, done: int, total: int, words: str) -> Text:
        from rich.text import Text

        full, empty = "━─" if self._console.encoding.startswith("utf") else "#-"  # two shapes: colour may be off
        filled = BAR * done // max(total, 1)
        return Text.assemble(f"{name}  ", (full * filled, "green"), (empty * (BAR - filled), "bright_black"),
                             f"  {f'{done}/{total}':<9}  {words}")

    def _refresh(self, progress: Progress, width: int) -> None:
        """Make the result table anew; the rows come first, then what they say, then how to read them."""
        done = progress.counts()["done"]
        due = progress.all_ended or time.monotonic() - self._results_at > RESULTS_SECONDS or not self._results
        if done == self._results_of or not due:
            return
        from analysis import terminal

        _, *tables, legend, verdicts = str(terminal.terminal_text(
            self._planned.layout.root, self._planned.sweep.name, width)).split("\n\n")
        sentences = [s.splitlines() for s in re.split(r"\n(?=- )", verdicts.strip())]
        sentences[0].insert(0, "")
        self._results = [*((False, ["", *t.splitlines()]) for t in tables), *((True, s) for s in sentences),
                         (True, ["", *legend.splitlines()])]
        self._results_of, self._results_at = done, time.monotonic()
