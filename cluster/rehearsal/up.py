"""Bring a rehearsal up: describe it, write its files, start its daemons in order, wait until its nodes are idle."""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

from cluster.rehearsal import daemons, needs, places, scratch
from cluster.rehearsal.client import ClientError, ask, refusal
from cluster.rehearsal.conf import database_options, slurm_conf, slurmdbd_conf
from cluster.rehearsal.describe import MAIN, Rehearsal, Shape, checked_name
from cluster.rehearsal.down import clear
from sweeps.errors import EnvironmentError_, OrchestratorError, UsageError

ATTEMPTS = 3
"""Another user may take a chosen port before its daemon does: then all ports are chosen again."""
PORT_TAKEN = ("Address already in use", "already in use")
START_TIMEOUT_S = 60.0
"""For each daemon, on a machine that is busy; an idle one needs 1 to 2 s."""


def up(name: str = "rehearsal", shape: Shape | None = None, *, folder: Path | None = None) -> Rehearsal:
    """Start a rehearsal and return its description once jobs can be submitted; one that is up already is returned.

    Args:
        name: of the rehearsal, unique for this user on this machine.
        shape: nodes, CPUs and the rest; None: the defaults.
        folder: where all its state goes; None: a folder of its own below `places.base()`.

    Raises:
        UsageError: the name or folder cannot be used, or a rehearsal of this name has another shape.
        EnvironmentError_: something is not installed, or a daemon did not start; nothing is left running.
    """
    wanted = shape or Shape()
    checked_name(name)
    needs.require(accounting=wanted.accounting)
    with places.locked(name, timeout_s=90):
        present = _present(name, wanted, folder)
        if present is not None:
            return present
        for attempt in range(1, ATTEMPTS + 1):
            rehearsal = places.reserve(name, wanted, folder)
            try:
                return _start(rehearsal)
            except OrchestratorError as error:
                _undo(rehearsal)
                if attempt == ATTEMPTS or not any(words in str(error) for words in PORT_TAKEN):
                    raise
            except BaseException:  # Ctrl-C too leaves nothing behind
                _undo(rehearsal)
                raise
    raise AssertionError("the last attempt returns or raises")


def _present(name: str, wanted: Shape, folder: Path | None) -> Rehearsal | None:
    """Return the rehearsal of this name where it is up; clear away the rest of one that is not."""
    found = next((r for r in places.rehearsals() if r.name == name), None)
    if found is None:
        return None
    alive = [daemons.running(found, key) for key in daemons.keys(found)]
    if not all(alive):
        if any(alive):
            raise UsageError(f"rehearsal {name} is partly up; repair it: orchestrator rehearsal break repair --name "
                             f"{name}, or take it down: orchestrator rehearsal down --name {name}")
        clear(found, keep=False)
        return None
    if found.shape != wanted or (folder is not None and folder.resolve() != found.folder):
        raise UsageError(f"rehearsal {name} is up with another shape or folder ({found.folder}, {found.shape}); take "
                         f"it down first (orchestrator rehearsal down --name {name}), or choose another --name")
    return found


def _undo(rehearsal: Rehearsal) -> None:
    """Leave nothing running; keep the logs, which say why."""
    clear(rehearsal, keep=True)


def _start(rehearsal: Rehearsal) -> Rehearsal:
    write(rehearsal)
    scratch.mount(rehearsal)
    daemons.start(rehearsal, daemons.MUNGE)
    if rehearsal.shape.accounting:
        _install_database(rehearsal)
        daemons.start(rehearsal, daemons.DATABASE)
    wait_for(rehearsal, daemons.MUNGE)
    if rehearsal.shape.accounting:
        wait_for(rehearsal, daemons.DATABASE)
        daemons.start(rehearsal, daemons.ACCOUNTING)
        wait_for(rehearsal, daemons.ACCOUNTING)
        _register(rehearsal)
    daemons.start(rehearsal, daemons.CONTROLLER)
    wait_for(rehearsal, daemons.CONTROLLER)
    for node in rehearsal.nodes:
        daemons.start(rehearsal, daemons.node_daemon(node))
    for node in rehearsal.nodes:
        wait_for_node(rehearsal, node)
    return rehearsal


def write(rehearsal: Rehearsal) -> None:
    """Write configuration and key, readable by the caller alone."""
    etc = rehearsal.folder / "etc"
    _write(etc / "slurm.conf", slurm_conf(rehearsal).encode())
    _write(etc / "munge.key", secrets.token_bytes(128))
    if rehearsal.shape.accounting:
        _write(etc / "slurmdbd.conf", slurmdbd_conf(rehearsal).encode())


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)


def _install_database(rehearsal: Rehearsal) -> None:
    """Make MariaDB's own tables: its install script, less the time zones and help texts that take it seconds."""
    (rehearsal.folder / "database" / "mysql").mkdir(parents=True, mode=0o700)
    log = daemons.output(rehearsal, "mariadbd.install")
    try:
        with log.open("wb") as out:
            done = subprocess.run(
                [needs.program("mariadbd"), *database_options(rehearsal), "--bootstrap"], cwd=rehearsal.logs,
                input=b"use mysql;\n" + needs.system_tables().encode(), stdout=out, stderr=out,
                timeout=START_TIMEOUT_S, env=daemons.environment(rehearsal), check=False)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentError_(f"mariadbd --bootstrap took over {START_TIMEOUT_S:.0f} s; see {log}") from error
    if done.returncode:
        raise EnvironmentError_(f"mariadbd --bootstrap failed:\n{daemons.tail(rehearsal, 'mariadbd.install')}")


def wait_for(rehearsal: Rehearsal, key: str) -> None:
    """Wait until a daemon (not a slurmd) answers.

    Raises:
        EnvironmentError_: it does not.
    """
    amiss = {
        daemons.MUNGE: lambda: _no_socket(rehearsal.munge_socket),
        daemons.DATABASE: lambda: _no_socket(rehearsal.database_socket),
        daemons.ACCOUNTING: lambda: refusal(rehearsal, ["sacctmgr", "-n", "show", "cluster"]),
        daemons.CONTROLLER: lambda: refusal(rehearsal, ["scontrol", "show", "config"]),
    }
    daemons.wait_ready(rehearsal, key, amiss[key], timeout_s=START_TIMEOUT_S)


def _no_socket(path: Path) -> str:
    return "" if path.is_socket() else f"{path} does not exist"


def _register(rehearsal: Rehearsal) -> None:
    """Make cluster and account known to accounting; the controller's first start is fatal without it."""
    ask(rehearsal, ["sacctmgr", "-i", "add", "cluster", "rehearsal"], timeout_s=START_TIMEOUT_S)


def wait_for_node(rehearsal: Rehearsal, node: str, *, timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait until a node's slurmd has registered, so that jobs can start there.

    Raises:
        EnvironmentError_: it does not.
    """
    def amiss() -> str:
        try:
            state = ask(rehearsal, ["sinfo", "-h", "-n", node, "-p", MAIN, "-o", "%T"])
        except ClientError as error:
            return str(error)
        absent = not state or state.startswith(("down", "unknown")) or state.endswith("*")
        return f"the node is {state or 'not known'}" if absent else ""

    daemons.wait_ready(rehearsal, daemons.node_daemon(node), amiss, timeout_s=timeout_s)
