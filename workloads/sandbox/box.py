"""A started sandbox, and what comes out of the programs that run in it.

    with open_box(Limits(wall_s=5.0)) as box:
        [outcome] = box.run([Program(source="def twice(x): return 2 * x", entry="twice", calls=(Call.of(21),))])
    outcome.returns == (Returned(42),)

A box holds `workers` servers (processes of their own sandboxes); a program costs a fork in one of them. What a program
has to return stays in this process: only sources and arguments go in, and only plain values come out.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sweeps.errors import EnvironmentError_
from workloads.sandbox import values
from workloads.sandbox.confine import LAYERS, Confined, Limits
from workloads.sandbox.kinds import ENVIRONMENT, SCRATCH, Kind, server, view
from workloads.sandbox.server import Setup, read_frame, write_frame

START_S, SLACK_S = 20.0, 10.0
"""How long a sandbox may take to start, and a server beyond the program's limit to answer."""
LOST = "lost"
"""How a program ended whose whole sandbox died, or fell silent; the next one gets a new sandbox."""


class BrokenSandbox(EnvironmentError_):  # noqa: N818 - what it is
    """A sandbox of this kind does not start here."""


@dataclass(frozen=True)
class Call:
    """Arguments of one call."""

    text: str
    """Of (arguments, keyword arguments), as `values.py` writes them."""

    @staticmethod
    def of(*arguments: Any, **keywords: Any) -> Call:
        """Return the call with these arguments.

        Raises:
            NotAValue: one is no plain value.
        """
        return Call(values.encode((arguments, keywords)))


@dataclass(frozen=True, kw_only=True)
class Program:
    """A source, the name that it defines, and what that is called with, one call after another."""

    source: str
    entry: str
    calls: Sequence[Call]

    def frame(self) -> bytes:
        """Return the text that the server's process reads."""
        return json.dumps({"source": self.source, "entry": self.entry, "calls": [c.text for c in self.calls]}).encode()


@dataclass(frozen=True)
class Returned:
    """A call's value."""

    value: Any


@dataclass(frozen=True)
class Raised:
    """The name of the exception that a call raised; or `NotAValue`, where what it returned is none."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a program."""

    ended: str
    """`finished`, `time`, `output`, `signal N`, `exit N` or `lost`."""
    returns: tuple[Returned | Raised, ...] = ()
    """Of the calls, in order, as far as it came."""
    error: str = ""
    """The exception's name, where the source itself failed."""
    wall_s: float = 0.0
    cpu_s: float = 0.0


def outcome_of(frame: bytes) -> Outcome:
    """Return what a server's answer says; a line that is no value ends what is believed of the program."""
    header, _, body = frame.partition(b"\n")
    found = json.loads(header)
    returns: list[Returned | Raised] = []
    error = ""
    for line in body.split(b"\n")[:-1]:
        kind, text = line[:1], line[1:]
        if kind == b"V":
            try:
                returns.append(Returned(values.decode(text)))
            except values.NotAValue:
                break
        elif kind in (b"R", b"E") and text.isascii() and text.decode("ascii").isidentifier():
            if kind == b"E":
                error = text.decode("ascii")
                break
            returns.append(Raised(text.decode("ascii")))
        else:
            break
    return Outcome(ended=found["ended"], returns=tuple(returns), error=error, wall_s=found["wall_s"],
                   cpu_s=found["cpu_s"])


@dataclass
class Box:
    """Running sandboxes of one kind; `ladder.open_box` makes it.

    They die with the thread that entered the box, at the latest: the kernel sees to that.
    """

    kind: Kind
    limits: Limits
    layers: tuple[str, ...] = LAYERS
    workers: int = 0
    """0: one for each processor."""
    confined: Confined = field(default_factory=lambda: Confined(landlock=0, seccomp=False))
    """What the kernel has beside the namespaces."""
    _servers: list[_Server] = field(default_factory=list)

    def __enter__(self) -> Box:
        """Start the sandboxes.

        Raises:
            BrokenSandbox: one does not start.
        """
        try:
            for _ in range(self.workers or len(os.sched_getaffinity(0))):
                self._servers.append(_Server(self.kind, self.limits, self.layers))
        except BrokenSandbox:
            self.__exit__()
            raise
        self.confined = self._servers[0].confined
        return self

    def __exit__(self, *_: object) -> None:
        """End them, with everything in them."""
        for one in self._servers:
            one.close()
        self._servers.clear()

    @property
    def pids(self) -> tuple[int, ...]:
        """Processes of this machine that hold the sandboxes."""
        return tuple(one.process.pid for one in self._servers)

    def run(self, programs: Sequence[Program]) -> list[Outcome]:
        """Run the programs, some at once; return their outcomes in order.

        Raises:
            BrokenSandbox: a sandbox died, and none could be started in its place.
        """
        found: dict[int, Outcome] = {}
        waiting = list(enumerate(programs))[::-1]
        busy: dict[int, int] = {}
        while waiting or busy:
            for place in range(len(self._servers)):
                if place not in busy and waiting:
                    number, program = waiting.pop()
                    if self._servers[place].give(program):
                        busy[place] = number
                    else:
                        found[number] = self._replaced(place)
            for place in self._ready(busy):
                found[busy.pop(place)] = self._servers[place].take() or self._replaced(place)
        return [found[number] for number in range(len(programs))]

    def _ready(self, busy: dict[int, int]) -> list[int]:
        """Wait for some of the busy servers; those that are overdue count as ready."""
        if not busy:
            return []
        with selectors.DefaultSelector() as selector:
            for place in busy:
                selector.register(self._servers[place].answers, selectors.EVENT_READ, place)
            due = min(self._servers[place].due for place in busy)
            ready = [cast(int, key.data) for key, _ in selector.select(max(due - time.monotonic(), 0.0))]
        return ready or [place for place in busy if self._servers[place].due <= time.monotonic()]

    def _replaced(self, place: int) -> Outcome:
        self._servers[place].close()
        self._servers[place] = _Server(self.kind, self.limits, self.layers)
        return Outcome(ended=LOST)


class _Server:
    """A started sandbox and the two pipes to it."""

    def __init__(self, kind: Kind, limits: Limits, layers: tuple[str, ...]) -> None:
        self._limits, self.due = limits, 0.0
        self._cleanup = contextlib.ExitStack()
        folder = Path(self._cleanup.enter_context(
            tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True)))
        self._errors = self._cleanup.enter_context((folder / "errors").open("w+b"))
        scratch = SCRATCH if kind.alone else str(folder)
        setup = Setup(limits=limits, readable=view().shown, scratch=scratch, alone=kind.alone, layers=layers)
        try:
            self.process = subprocess.Popen(
                kind.command(server(), limits, folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=self._errors, env={**ENVIRONMENT, "PATH": os.environ.get("PATH", os.defpath)},
                start_new_session=True, cwd="/")
        except OSError as error:
            self._cleanup.close()
            raise BrokenSandbox(f"{kind.name}: {error}") from error
        assert self.process.stdin and self.process.stdout
        self._questions, self.answers = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.confined = self._begin(kind, setup)

    def _begin(self, kind: Kind, setup: Setup) -> Confined:
        self.due = time.monotonic() + START_S
        with contextlib.suppress(BrokenPipeError):
            write_frame(self._questions, setup.dumps())
        ready = self._frame()
        if ready is None:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            self.close()
            raise BrokenSandbox(f"{kind.name} does not start here: {said[-1] if said else 'no reason given'}")
        return Confined(**json.loads(ready))

    def _frame(self) -> bytes | None:
        """Return the next answer; None where none came in time."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            if not selector.select(max(self.due - time.monotonic(), 0.0)):
                return None
        return read_frame(self.answers)

    def give(self, program: Program) -> bool:
        """Send a program; False if nobody reads it."""
        self.due = time.monotonic() + self._limits.wall_s + SLACK_S
        try:
            write_frame(self._questions, program.frame())
        except BrokenPipeError:
            return False
        return True

    def take(self) -> Outcome | None:
        """Return the outcome; None if the sandbox is lost."""
        frame = self._frame()
        return None if frame is None else outcome_of(frame)

    def close(self) -> None:
        """End the sandbox: its process 1 dies with the process that holds it, and everything with that."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._cleanup.close()
