"""A disk that is really full: a small tmpfs of its own where we may mount one, and a file-size limit everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[Path]:
    """Mount a tmpfs of this size at `folder` and unmount it in any case; skips where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root; the file-size limit is tested all the same")
    folder.mkdir(parents=True, exist_ok=True)
    size = f"size={int(megabytes * 1024)}k"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "small", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave_bytes: int = 0) -> Path:
    """Take all the space of a small disk but `leave_bytes`; return the file that holds it."""
    ballast = folder / "ballast"
    usage = os.statvfs(folder)
    with ballast.open("wb", buffering=0) as out, suppress(OSError):  # others may take the last of it
        for _ in range(max(0, usage.f_bavail * usage.f_frsize - leave_bytes) // 4096):
            out.write(bytes(4096))
    return ballast


def limited(code: str, arguments: Sequence[str | Path], limit_bytes: int) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process whose files may not grow beyond `limit_bytes` (RLIMIT_FSIZE, `ulimit -f`)."""
    prelude = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))\n"
    return subprocess.run([sys.executable, "-c", prelude + code, *map(str, arguments)], capture_output=True, text=True,
                          timeout=110)
