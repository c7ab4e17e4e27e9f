"""The scratch disk of a rehearsal: a small disk of its own (tmpfs) where this machine allows mounting one.

Filling a disk that others use too is no rehearsal, so without a mount there is nothing to fill.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from cluster.rehearsal.describe import Rehearsal
from cluster.rehearsal.needs import search_path
from sweeps.errors import EnvironmentError_

BALLAST = ".ballast"
BLOCK = 1 << 16


def mounted(rehearsal: Rehearsal) -> bool:
    """Tell whether the scratch folder is a disk of its own."""
    return os.path.ismount(rehearsal.folder / "scratch")


def mount(rehearsal: Rehearsal) -> bool:
    """Mount it; False where that is not allowed here (an ordinary user, most containers)."""
    if os.geteuid() != 0 or mounted(rehearsal):
        return mounted(rehearsal)
    size = f"size={rehearsal.shape.scratch_mb}m,mode=0700"
    return _run(["mount", "-t", "tmpfs", "-o", size, "rehearsal", str(rehearsal.folder / "scratch")])


def unmount(rehearsal: Rehearsal) -> None:
    """Unmount it; processes that still have files open there keep them."""
    if mounted(rehearsal):
        _run(["umount", "-l", str(rehearsal.folder / "scratch")])


def fill(rehearsal: Rehearsal, *, leave_mb: int) -> int:
    """Fill it up to `leave_mb` MB; return the bytes that are still free.

    Raises:
        EnvironmentError_: it is no disk of its own.
    """
    if not mounted(rehearsal):
        raise EnvironmentError_(f"{rehearsal.scratch} is no disk of its own: mounting one was not allowed here (it "
                                "needs root, and a container that permits it), and filling the machine's disk would "
                                "harm others. Rehearse a full disk as root, or with a quota of your own")
    empty(rehearsal)
    with (rehearsal.scratch / BALLAST).open("ab", buffering=0) as ballast:
        for size in (BLOCK, 1):  # whole blocks, then the last page
            _write_until_full(ballast.fileno(), rehearsal.scratch, leave_mb * 1024**2, size)
    return free_bytes(rehearsal.scratch)


def _write_until_full(descriptor: int, folder: Path, leave_bytes: int, size: int) -> None:
    block = b"\0" * size
    try:
        while free_bytes(folder) > leave_bytes:
            os.write(descriptor, block)
    except OSError:  # full, which is what was asked for
        return


def empty(rehearsal: Rehearsal) -> int:
    """Take the ballast away; return the bytes that are free."""
    (rehearsal.scratch / BALLAST).unlink(missing_ok=True)
    return free_bytes(rehearsal.scratch)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk below `folder`."""
    return shutil.disk_usage(folder).free


def _run(command: list[str]) -> bool:
    done = subprocess.run(command, env={"PATH": search_path(), "LC_ALL": "C"}, capture_output=True, timeout=20,
                          check=False)
    return done.returncode == 0
