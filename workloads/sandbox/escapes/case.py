"""What an attempt to get out of the sandbox is. Tests and `orchestrator doctor --sandbox` try all; every use, some.

A case is the body of a function. It has escaped if it returns "escaped" or the secret that lies outside, or if
`examine.py` sees that something outside has changed. Bombs are small, and the files that it may spoil were made for it.
Words in capitals are replaced: SECRET_FILE and OUTSIDE (a file and its folder), PORT (a listening TCP port of
127.0.0.1), PATH_SOCKET, ABSTRACT (names of listening Unix sockets), VICTIM (a process of the same user).
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Case:
    """One attempt."""

    area: str
    name: str
    body: str
    before: str = ""
    """Another program's body, run before it in the same sandbox."""
    quick: bool = False
    """Tried before every use of a sandbox."""

    @property
    def source(self) -> str:
        """The program; its function is `attempt`."""
        return source_of(self.body)


def source_of(body: str) -> str:
    """Return a program whose function `attempt` has this body."""
    return PRELUDE + "def attempt():\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n"


PRELUDE = """
import ctypes, os, sys, time, signal
libc = ctypes.CDLL(None, use_errno=True)
def call(*numbers):
    found = libc.syscall(*(ctypes.c_long(n) if isinstance(n, int) else n for n in numbers))
    if found < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return found
def read(path):
    with open(path, "rb") as file:
        return file.read(100_000).decode("utf-8", "replace").strip()
ARM = os.uname().machine == "aarch64"
"""


def cases(area: str, quick: tuple[str, ...] = (), **bodies: str) -> tuple[Case, ...]:
    return tuple(Case(area=area, name=name.replace("_", " "), body=body, quick=name in quick)
                 for name, body in bodies.items())
