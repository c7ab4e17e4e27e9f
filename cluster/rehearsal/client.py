"""Slurm's client programs, each call with a time-out and without the caller's own Slurm variables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from cluster.rehearsal.describe import Rehearsal
from cluster.rehearsal.needs import program, search_path
from sweeps.errors import EnvironmentError_

TIMEOUT_S = 15.0


class ClientError(EnvironmentError_):
    """A client failed or did not answer in time; what it asked for may have happened all the same."""


def ask(rehearsal: Rehearsal, arguments: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> str:
    """Run a client and return its stdout, stripped.

    Raises:
        ClientError: it failed, or gave no answer within `timeout_s` seconds.
    """
    environment = rehearsal.client_environment(os.environ) | {"PATH": search_path(), "LC_ALL": "C"}
    command = [program(arguments[0]), *arguments[1:]]
    shown = " ".join(arguments)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False,
                              stdin=subprocess.DEVNULL, cwd="/")
    except subprocess.TimeoutExpired as error:
        raise ClientError(f"rehearsal {rehearsal.name}: `{shown}` gave no answer in {timeout_s:.0f} s; see "
                          f"`orchestrator rehearsal status --name {rehearsal.name}`") from error
    if done.returncode:
        why = (done.stderr or done.stdout).strip() or f"exit {done.returncode}"
        raise ClientError(f"rehearsal {rehearsal.name}: `{shown}` failed: {why}")
    return done.stdout.strip()


def refusal(rehearsal: Rehearsal, arguments: Sequence[str], *, timeout_s: float = 5.0) -> str:
    """Return why a client does not succeed; empty: it does."""
    try:
        ask(rehearsal, arguments, timeout_s=timeout_s)
    except ClientError as error:
        return str(error)
    return ""
