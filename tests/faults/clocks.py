"""A wall clock that is stepped while processes run (libfaketime), for the controller and its jobs alike.

Jobs inherit no LD_PRELOAD, so a `sitecustomize.py` on PYTHONPATH starts the wished processes again, in place, with the
library in front; process id, start time and command line stay. Their own children (Ray's) see the true clock. The
monotonic clock is left alone, as a stepped clock leaves it; libfaketime 0.9.10 then refuses the call by which Python
sleeps (EINVAL from clock_nanosleep), so that these processes sleep by select.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.faults.crash import PROCESSES

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
_SITE = '''
import os, re, select, sys, time
if os.environ.pop("FAULTS_CLOCK", "") == "running":
    os.environ.pop("LD_PRELOAD")
    time.sleep = lambda seconds: select.select((), (), (), seconds) and None
elif re.search({pattern!r}, " ".join(sys.orig_argv) + " "):
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {{
        **os.environ, "FAULTS_CLOCK": "running", "LD_PRELOAD": {library!r}, "FAKETIME_TIMESTAMP_FILE": {file!r},
        "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }})
'''


def environment(folder: Path) -> dict[str, str]:
    """Return variables with which the controller and its jobs follow the clock in `folder`, a new folder."""
    folder.mkdir(parents=True)
    step(folder, "+0")
    pattern = "|".join(p.pattern for p in PROCESSES.values())
    (folder / "sitecustomize.py").write_text(
        _SITE.format(pattern=pattern, library=str(LIBRARIES[0]), file=str(folder / "clock")), encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


def step(folder: Path, offset: str) -> None:
    """Set the clock: an offset to the true one, for instance `+1h`."""
    new = folder / "clock.new"
    new.write_text(offset + "\n", encoding="utf-8")
    new.replace(folder / "clock")
