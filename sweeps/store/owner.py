"""Who owns a process: host, boot, pid and start time, so that a reused pid is never taken for its former owner."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


def process_start(pid: int) -> int | None:
    """Return a process's start time in clock ticks since boot, or None where it is gone or a zombie (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def boot_id() -> str:
    """Return the kernel's id of this boot: pids and start times mean nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process of a host."""

    host: str
    boot: str
    pid: int
    start: int

    @classmethod
    def me(cls) -> Owner:
        """This process."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), boot=boot_id(), pid=pid, start=process_start(pid) or 0)

    @classmethod
    def read(cls, raw: dict[str, Any]) -> Owner:
        """Return the owner that `fields` wrote."""
        return cls(host=raw["host"], boot=raw["boot"], pid=raw["pid"], start=raw["start"])

    def fields(self) -> dict[str, Any]:
        """Return JSON fields."""
        return asdict(self)

    def text(self) -> str:
        """Return `pid N on HOST, for 12 min`; without the age where only the other host could tell it."""
        age = self.age_seconds()
        return f"pid {self.pid} on {self.host}" + ("" if age is None else f", running for {_minutes(age)}")

    def age_seconds(self) -> float | None:
        """Seconds since the process started, by this host's monotonic clock; None for other hosts and boots."""
        if self.host != socket.gethostname() or self.boot != boot_id():
            return None
        return max(time.clock_gettime(time.CLOCK_BOOTTIME) - self.start / os.sysconf("SC_CLK_TCK"), 0.0)

    def alive(self) -> bool | None:
        """True or False on this host; None where only another host could tell."""
        if self.host != socket.gethostname():
            return None
        return self.boot == boot_id() and process_start(self.pid) == self.start
