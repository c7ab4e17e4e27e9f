"""Tries escape cases in a sandbox, and says which were stopped. What a case is: `escapes/case.py`.

A case counts as stopped only if it did not get what it was after, if nothing outside has changed, if no process of it
is left, if it ended in its time, and if the program after it runs as if nothing had been.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from workloads.sandbox.box import Box, Call, Outcome, Program, Returned
from workloads.sandbox.confine import LAYERS, Limits
from workloads.sandbox.escapes.case import Case, source_of
from workloads.sandbox.kinds import Kind

LIMITS = Limits(wall_s=1.5, cpu_s=1)
LATE_S = 2.0
"""Seconds beyond its wall-time limit after which a program counts as having evaded it."""
AFTERWARDS = Program(source="def double(x):\n    return [x, x]", entry="double", calls=(Call.of("a"),))


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A case and what became of it."""

    case: Case
    stopped: bool
    seen: str
    """How the program ended, or what had escaped."""


class Outside(AbstractContextManager["Outside"]):
    """What lies outside to be reached: a file, listening sockets, a process. Made for it and removed again."""

    def __enter__(self) -> Outside:
        """Make it."""
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="outside-")))
        self.secret = "secret-" + secrets.token_hex(8)
        self.file = self.folder / "file"
        self.file.write_text(self.secret, encoding="ascii")
        (self.folder / "secret_module.py").write_text(f"SECRET = {self.secret!r}\n", encoding="ascii")
        tcp = self._stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        path, abstract = str(self.folder / "socket"), "\0outside-" + secrets.token_hex(4)
        for name in (path, abstract):
            listening = self._stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(name)
            listening.listen(64)
        self.victim = subprocess.Popen(["sleep", "3600"])
        self._words = {"SECRET_FILE": repr(str(self.file)), "OUTSIDE": repr(str(self.folder)),
                       "PORT": str(tcp.getsockname()[1]), "PATH_SOCKET": repr(path), "ABSTRACT": repr(abstract),
                       "VICTIM": str(self.victim.pid)}
        self._before = self._state()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        self.victim.kill()
        self.victim.wait()
        self._stack.close()

    def program(self, body: str) -> Program:
        """Return the program of a case's body, with the words put in."""
        source = source_of(body)
        for word, value in self._words.items():
            source = source.replace(word, value)
        return Program(source=source, entry="attempt", calls=(Call.of(),))

    def changed(self) -> str:
        """Return what has changed; empty where nothing has."""
        if self.victim.poll() is not None:
            return "it killed a process outside"
        return "" if self._state() == self._before else "files outside were changed"

    def _state(self) -> list[tuple[str, int, int, bytes]]:
        found = [(p, p.lstat()) for p in sorted(self.folder.iterdir())]
        return [(str(p), seen.st_mode, seen.st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p, seen in found]


def escapes_of(kind: Kind, cases: Sequence[Case], layers: tuple[str, ...] = LAYERS) -> Iterator[Tried]:
    """Try the cases one after another in a sandbox of this kind.

    Raises:
        BrokenSandbox: it does not start here.
    """
    with Box(kind=kind, limits=LIMITS, layers=layers, workers=1) as box:
        for case in cases:
            with Outside() as outside:
                if case.before:
                    box.run([outside.program(case.before)])
                outcome, after = box.run([outside.program(case.body), AFTERWARDS])
                escaped = (reached(outcome, outside.secret) or outside.changed() or _afterwards(after)
                           or ("a process outlives it" if branches(box.pids) else ""))
            yield Tried(case=case, stopped=not escaped, seen=escaped or _ended(outcome))


def reached(outcome: Outcome, secret: str) -> str:
    """Return what the program got hold of; empty where it got nothing."""
    if any(one == Returned(value) for one in outcome.returns for value in ("escaped", secret)):
        return "it got what it was after"
    return "it evaded its time limit" if outcome.wall_s > LIMITS.wall_s + LATE_S else ""


def _afterwards(after: Outcome) -> str:
    return "" if after.returns == (Returned(["a", "a"]),) else f"the next program suffers: {_ended(after)}"


def _ended(outcome: Outcome) -> str:
    last = outcome.returns[-1] if outcome.returns else None
    what = outcome.error or getattr(last, "name", "")
    return f"{outcome.ended}, {what}" if what else outcome.ended


def branches(pids: Sequence[int]) -> bool:
    """Return whether a process below these has two children. A quiet sandbox is a chain down to the next program's."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(folder.name))
    below = list(pids)
    for pid in below:
        below += children.get(pid, [])
    return any(len(children.get(pid, [])) > 1 for pid in below)
