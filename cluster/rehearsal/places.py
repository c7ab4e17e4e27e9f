"""Where rehearsals lie, and which ports they have. One folder per user on this machine knows them all.

`/tmp/rehearsal-UID` (or $ORCHESTRATOR_REHEARSALS) holds a link to each rehearsal's folder, and those folders unless
another place is named. It is on the machine's own disk and in the same place for every process of the user, because
what it describes is processes of this machine. Sockets have at most 107 bytes of path: the links keep them short.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pwd
import random
import shutil
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.executors._process import machine
from cluster.rehearsal.describe import FILE, SOCKET_PATH_BYTES, Rehearsal, Shape, checked_name, from_fields, to_fields
from cluster.rehearsal.needs import slurm_version
from sweeps.errors import EnvironmentError_, OrchestratorError, UsageError
from sweeps.store import files

VARIABLE = "ORCHESTRATOR_REHEARSALS"
PORTS = range(20_000, 32_000)
"""Below the range that Linux gives to outgoing connections (32768-60999)."""
FOLDERS = ("etc", "run", "log", "state", "spool", "scratch")
HOME_CHARS = 8
PATH_MAX_BYTES = 1024
"""Longest folder: Slurm's own buffers of paths have 1024 to 4096 bytes."""


def base() -> Path:
    """Return this user's folder of rehearsals, made and checked.

    Raises:
        EnvironmentError_: it belongs to somebody else, or cannot be made.
    """
    path = Path(os.environ.get(VARIABLE) or f"/tmp/rehearsal-{os.getuid()}").absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise EnvironmentError_(f"{path}: cannot be made ({error.strerror}); name another with ${VARIABLE}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise EnvironmentError_(f"{path} must be a folder that is yours and that nobody else may write; remove it, or "
                                f"name another with ${VARIABLE}")
    return path


def home_of(folder: Path) -> Path:
    """Return the link through which a folder is reached."""
    return base() / hashlib.sha256(os.fsencode(folder)).hexdigest()[:HOME_CHARS]


def rehearsals() -> list[Rehearsal]:
    """Return every rehearsal of this user that is described, up or not, by name."""
    found = [_load(link) for link in sorted(base().iterdir()) if link.is_symlink()]
    return sorted((r for r in found if r is not None), key=lambda r: r.name)


def _load(link: Path) -> Rehearsal | None:
    try:
        return from_fields(files.read_json(link / FILE))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise EnvironmentError_(f"{link}/{FILE}: {error}; remove {link.resolve()} after `orchestrator rehearsal down` "
                                "of the release that made it") from error


def find(name: str) -> Rehearsal:
    """Return a rehearsal by name.

    Raises:
        UsageError: the name is none.
        EnvironmentError_: there is no such rehearsal; says how to start it.
    """
    checked_name(name)
    known = rehearsals()
    for rehearsal in known:
        if rehearsal.name == name:
            return rehearsal
    others = f" (there are: {', '.join(r.name for r in known)})" if known else ""
    flag = f" --name {name}" if name != "rehearsal" else ""
    raise EnvironmentError_(f"no rehearsal {name!r} on this machine{others}; start it: "
                            f"orchestrator rehearsal up{flag}")


@contextmanager
def locked(what: str, *, timeout_s: float) -> Iterator[None]:
    """Hold a lock of this user's rehearsals: `ports`, or a rehearsal's name while it goes up or down.

    Raises:
        EnvironmentError_: another process held it all the time.
    """
    path = base() / f".{what}.lock"
    with path.open("w") as handle:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            if time.monotonic() > deadline:
                raise EnvironmentError_(f"another command has been busy with rehearsal {what} for {timeout_s:.0f} s; "
                                        "wait for it, then run this one again")
            time.sleep(0.05)
        yield


def free_ports(count: int, taken: Iterable[int]) -> tuple[int, ...]:
    """Return ports that nothing listens on, none of them in `taken`, from a random place on.

    Raises:
        EnvironmentError_: too few are free.
    """
    barred = set(taken)
    start = random.randrange(len(PORTS))
    found: list[int] = []
    for offset in range(len(PORTS)):
        port = PORTS[(start + offset) % len(PORTS)]
        if port not in barred and _is_free(port):
            found.append(port)
        if len(found) == count:
            return tuple(found)
    raise EnvironmentError_(f"{count} free ports were asked for, {len(found)} of {PORTS.start}-{PORTS.stop - 1} are "
                            "free; take a rehearsal down, or ask for fewer nodes")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))  # every address: a daemon of Slurm listens on all of them
        except OSError:
            return False
    return True


def reserve(name: str, shape: Shape, folder: Path | None) -> Rehearsal:
    """Describe a new rehearsal, make its folders and record its ports, so that no other `up` takes them.

    Args:
        name: of the rehearsal.
        shape: what is wanted.
        folder: where all its state goes; None: a folder of its name in `base()`.

    Raises:
        UsageError: the folder holds something else, or its path cannot be used.
        EnvironmentError_: no ports, no user, or the folder cannot be made.
    """
    place = (folder or base() / "named" / checked_name(name)).absolute()
    with locked("ports", timeout_s=20):
        _make(place)
        real = place.resolve()
        rehearsal = _describe(name, shape, real)
        if not rehearsal.home.is_symlink():
            rehearsal.home.symlink_to(real)
        files.replace(real / FILE, files.seal(to_fields(rehearsal)) + "\n")
    return rehearsal


def _make(place: Path) -> None:
    if len(os.fsencode(place)) > PATH_MAX_BYTES - 100:
        raise UsageError(f"the folder's path has {len(os.fsencode(place))} bytes; a rehearsal's may have at most "
                         f"{PATH_MAX_BYTES - 100}")
    if place.exists() and (not place.is_dir() or (any(place.iterdir()) and not (place / FILE).is_file())):
        raise UsageError(f"{place} holds something that is no rehearsal; name an empty or a new folder")
    if place.exists():
        _empty(place.resolve())
    for part in FOLDERS:
        (place / part).mkdir(mode=0o700, parents=True, exist_ok=True)
    place.chmod(0o700)


def _empty(place: Path) -> None:
    """Remove what an earlier rehearsal left; `up` has seen to it that none of this name runs."""
    known = _load(home_of(place))
    if known is not None:
        raise UsageError(f"{place} belongs to rehearsal {known.name}; take that down first (orchestrator rehearsal "
                         f"down --name {known.name}), or name another folder")
    for entry in place.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _describe(name: str, shape: Shape, real: Path) -> Rehearsal:
    taken = {port for other in _readable() if other.folder != real for port in other.ports.values()}
    ports = free_ports(2 + shape.nodes, taken)
    host, boot = machine()
    rehearsal = Rehearsal(
        name=checked_name(name), folder=real, home=home_of(real), shape=shape, version=slurm_version(),
        user=_user(), host=host, boot=boot, controller_port=ports[0], accounting_port=ports[1],
        node_ports=ports[2:])
    longest = max(len(str(rehearsal.home / "spool" / n / f"{n}_4294967295.4294967295")) for n in rehearsal.nodes)
    if longest > SOCKET_PATH_BYTES:
        raise EnvironmentError_(f"{base()} is {longest - SOCKET_PATH_BYTES} bytes too long: sockets below it would "
                                f"have {longest} bytes of path, Linux takes {SOCKET_PATH_BYTES}; name a shorter "
                                f"${VARIABLE}")
    return rehearsal


def _readable() -> list[Rehearsal]:
    try:
        return rehearsals()
    except OrchestratorError:  # one that cannot be read must not keep others from starting; its ports are seen as bound
        return []


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError as error:
        raise EnvironmentError_(f"user id {os.getuid()} has no name on this machine, and Slurm needs one; add it to "
                                "/etc/passwd") from error


def forget(rehearsal: Rehearsal, *, keep: bool) -> None:
    """Remove a rehearsal's link and, unless `keep`, its folder, which the next `up` there may empty.

    Raises:
        EnvironmentError_: something is still mounted inside.
    """
    if os.path.ismount(rehearsal.folder / "scratch"):
        raise EnvironmentError_(f"{rehearsal.folder}/scratch is still mounted; unmount it: umount -l "
                                f"{rehearsal.folder}/scratch")
    rehearsal.home.unlink(missing_ok=True)
    if not keep:
        shutil.rmtree(rehearsal.folder, ignore_errors=True)
