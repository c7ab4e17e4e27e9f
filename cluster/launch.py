"""What runs inside a job of the local executor: `python -m cluster.launch TICKET --note NOTE --token TOKEN`.

It waits for one line on standard input, which the executor writes once the job's process is on record; where the
executor dies first, the pipe closes and the job leaves without having done anything. So no job runs that a later
controller could not find. TERM and USR2 are held back (by the executor, from before the first instruction) until
`workloads.run`, which takes them, is imported. The exit note is the last act: a job gone without one was killed.
"""

from __future__ import annotations

import argparse
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sweeps.errors import StorageError
from sweeps.store import files

GO = "go"
"""The line that lets a job begin."""
HELD_BACK = (signal.SIGTERM, signal.SIGUSR2)
"""Signals that wait for the job's own handlers."""
NEVER_BEGAN = 75
"""Exit code of a job whose executor died before it was on record (EX_TEMPFAIL)."""
JOB = "workloads.run"
"""Run by name: this package imports nothing of what jobs do."""


def exit_note(note: Path) -> Path:
    """Return where a job that has this note leaves its exit code."""
    return note.with_suffix(".exit.json")


def leave(note: Path, *, code: int | None, detail: str) -> None:
    """Record how the job ended; what was recorded first counts."""
    files.create(exit_note(note), files.to_json(
        {"schema_version": files.SCHEMA_VERSION, "code": code, "detail": detail}
    ))


def run(module: str, ticket: str) -> int:
    """Run `module` as the main program with one argument, in this process; return its exit code."""
    sys.argv = [module, ticket]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        sys.stderr.write(f"{left.code}\n")
        return 1
    return 0


def main(arguments: Sequence[str]) -> int:
    """Wait for the word to begin, run the ticket, leave the exit note."""
    parser = argparse.ArgumentParser(prog="cluster.launch")
    parser.add_argument("ticket")
    parser.add_argument("--note", type=Path, required=True)
    parser.add_argument("--token", required=True, help="proves whose process this is; read from outside")
    given = parser.parse_args(arguments)
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    os.umask(0o077)
    if sys.stdin.readline().strip() != GO:
        leave(given.note, code=NEVER_BEGAN, detail="the executor died before the job began")
        return NEVER_BEGAN
    process, code = os.getpid(), 1
    try:
        code = run(JOB, given.ticket)
    finally:
        if os.getpid() == process:  # not in a child that the stage forked
            with suppress(StorageError):  # the code itself says it then
                leave(given.note, code=code, detail=f"exit {code}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
