"""Which process is meant: its id alone proves nothing, because ids are used again. Linux (/proc).

A process is the recorded one when its id, its start time (clock ticks since boot, field 22 of /proc/PID/stat) and a
random token on its command line agree, on the same boot of the same machine. Zombies do not count.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")
STATE, START = 0, 19
"""Positions in /proc/PID/stat after the command's closing parenthesis (fields 3 and 22)."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A process on this machine."""

    pid: int
    start: int
    """Clock ticks between boot and the process's start."""
    token: str = ""
    """A word of its command line; empty: not checked."""


@cache
def machine() -> tuple[str, str]:
    """Return host name and the identity of this boot."""
    boot = PROC / "sys" / "kernel" / "random" / "boot_id"
    return socket.gethostname(), boot.read_text(encoding="ascii").strip() if boot.is_file() else ""


def start_time(pid: int) -> int | None:
    """Return when a process started; None where it is gone or a zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[STATE] in "ZX" else int(fields[START])


def alive(process: Identity) -> bool:
    """Tell whether this very process still runs."""
    if start_time(process.pid) != process.start:
        return False
    if not process.token:
        return True
    try:
        words = (PROC / str(process.pid) / "cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return words == [b""] or process.token.encode() in words  # empty: within exec, or exiting
