"""The processes of a rehearsal: their command lines (pure), and starting, signalling and stopping them.

Each daemon runs in the foreground in a session of its own, with a small environment (the caller's secrets do not
travel), and is recorded with its start time, so that a process id that is used again is never mistaken for it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cluster.executors._process import Identity, alive, machine, start_time
from cluster.rehearsal.conf import database_options
from cluster.rehearsal.describe import Rehearsal
from cluster.rehearsal.needs import program, search_path
from sweeps.errors import EnvironmentError_
from sweeps.store import files

MUNGE, DATABASE, ACCOUNTING, CONTROLLER = "munged", "mariadbd", "slurmdbd", "slurmctld"
TAIL_LINES = 12
PASSED_ON = ("HOME", "LANG", "TZ", "USER", "LOGNAME")


def node_daemon(node: str) -> str:
    """Return the key of a node's slurmd."""
    return f"slurmd.{node}"


def keys(rehearsal: Rehearsal) -> tuple[str, ...]:
    """Return the daemons in the order in which they start."""
    accounting = (DATABASE, ACCOUNTING) if rehearsal.shape.accounting else ()
    return (MUNGE, *accounting, CONTROLLER, *map(node_daemon, rehearsal.nodes))


def command(rehearsal: Rehearsal, key: str) -> list[str]:
    """Return a daemon's command line; its first word is looked up when it starts."""
    home = rehearsal.home
    if key == MUNGE:  # --force: its folder is the caller's alone, which munged, made for all users, calls an error
        return ["munged", "--foreground", "--force", f"--socket={rehearsal.munge_socket}",
                f"--key-file={home}/etc/munge.key", f"--pid-file={home}/run/munged.pid",
                f"--log-file={rehearsal.logs}/munged.log", f"--seed-file={home}/run/munge.seed", "--num-threads=2"]
    if key == DATABASE:
        return ["mariadbd", *database_options(rehearsal)]
    if key == ACCOUNTING:
        return ["slurmdbd", "-D"]
    if key == CONTROLLER:
        return ["slurmctld", "-D", "-f", str(rehearsal.conf)]
    return ["slurmd", "-D", "-f", str(rehearsal.conf), "-N", key.partition(".")[2]]


def environment(rehearsal: Rehearsal) -> dict[str, str]:
    """Return the environment of every daemon: little more than which cluster it belongs to."""
    kept = {k: os.environ[k] for k in PASSED_ON if k in os.environ}
    return {**kept, "PATH": search_path(), **rehearsal.environment(),
            "MYSQL_UNIX_PORT": str(rehearsal.database_socket)}


def start(rehearsal: Rehearsal, key: str) -> None:
    """Start a daemon, unless it runs, and record it; `ready` tells when it answers."""
    if running(rehearsal, key) is not None:
        return
    line = command(rehearsal, key)
    with output(rehearsal, key).open("ab") as log:
        child = subprocess.Popen(
            [program(line[0]), *line[1:]], env=environment(rehearsal), cwd=rehearsal.folder / "log",
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, umask=0o077)
    child.returncode = 0  # it outlives this process on purpose; `_reap` collects it where it does not
    files.replace(_record(rehearsal, key), json.dumps({"pid": child.pid, "start": start_time(child.pid) or 0}))


def running(rehearsal: Rehearsal, key: str) -> int | None:
    """Return the process id of a daemon; None where it does not run."""
    try:
        record = json.loads(_record(rehearsal, key).read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    pid = int(record["pid"])
    _reap(pid)
    if machine()[1] != rehearsal.boot:  # that process went with the machine's last boot
        return None
    return pid if alive(Identity(pid=pid, start=int(record["start"]))) else None


def hung(pid: int) -> bool:
    """Tell whether a process is stopped (SIGSTOP)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "Tt"
    except (FileNotFoundError, ProcessLookupError):
        return False


def send(rehearsal: Rehearsal, key: str, number: signal.Signals) -> int:
    """Send a daemon a signal; return its process id.

    Raises:
        EnvironmentError_: it does not run.
    """
    pid = running(rehearsal, key)
    if pid is None:
        raise EnvironmentError_(f"rehearsal {rehearsal.name}: {key} does not run; `orchestrator rehearsal break "
                                f"repair --name {rehearsal.name}` starts it")
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    return pid


def stop(rehearsal: Rehearsal, key: str, *, number: signal.Signals = signal.SIGTERM, patience_s: float = 5.0) -> None:
    """End a daemon: `number`, then SIGKILL after `patience_s` seconds (a slurmd that never registered needs it).

    Raises:
        EnvironmentError_: it survived even that.
    """
    pid = running(rehearsal, key)
    if pid is None:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)
    if not _gone(rehearsal, key, patience_s):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if not _gone(rehearsal, key, 5.0):
            raise EnvironmentError_(f"rehearsal {rehearsal.name}: {key} (pid {pid}) survives SIGKILL; look at "
                                    f"/proc/{pid}/stack, it waits for the kernel")


def _gone(rehearsal: Rehearsal, key: str, patience_s: float) -> bool:
    return until(lambda: running(rehearsal, key) is None, patience_s)


def wait_ready(rehearsal: Rehearsal, key: str, amiss: Callable[[], str], *, timeout_s: float) -> None:
    """Wait until a daemon answers.

    Args:
        rehearsal: whose daemon.
        key: the daemon.
        amiss: returns why it does not answer yet; empty: it does.
        timeout_s: how long to wait, seconds.

    Raises:
        EnvironmentError_: it ended, or did not answer in time; shows the end of its log.
    """
    ended, why = False, ""

    def done() -> bool:
        nonlocal ended, why
        ended = running(rehearsal, key) is None
        why = "" if ended else amiss()
        return not why

    if not until(done, timeout_s):
        raise EnvironmentError_(f"rehearsal {rehearsal.name}: {key} did not answer within {timeout_s:.0f} s: {why}\n"
                                f"{tail(rehearsal, key)}")
    if ended:
        raise EnvironmentError_(f"rehearsal {rehearsal.name}: {key} ended as soon as it was started\n"
                                f"{tail(rehearsal, key)}")


def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for a condition; False where `timeout_s` seconds pass without it."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def output(rehearsal: Rehearsal, key: str) -> Path:
    """Return the file that takes a daemon's stdout and stderr."""
    return rehearsal.logs / f"{key}.out"


def tail(rehearsal: Rehearsal, key: str) -> str:
    """Return the last lines that a daemon wrote."""
    with suppress(FileNotFoundError):
        lines = output(rehearsal, key).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])
    return ""


def _record(rehearsal: Rehearsal, key: str) -> Path:
    return rehearsal.folder / "run" / f"{key}.json"


def _reap(pid: int) -> None:
    """Collect a daemon that has ended and was started by this very process."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
