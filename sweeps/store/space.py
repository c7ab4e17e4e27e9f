"""What a full disk looks like: ENOSPC, EDQUOT and EFBIG become `StorageError`, which says where, why and what to do.

Python's own writes carry the error number. torch and other C++ or Rust writers do not: torch raises RuntimeError
(`basic_ios::clear: iostream error`, `unexpected pos 4736 vs 4656`), so `cause_of` also looks at the disk itself.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeps.errors import EnvironmentError_, StorageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors that space, and nothing else, would have prevented."""
SPARE_BYTES = 1_000_000_000
"""Left free where much is written at once."""
PROBE_BYTES = 4_194_304
"""Bytes that a disk must still take to count as not full: more than what a network filesystem writes at once."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say of everything inside that it writes `path`.

    Raises:
        StorageError: the disk is full, the quota is used up, or a file-size limit is reached.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StorageError(describe(path, error.errno)) from error


def cause_of(error: BaseException, folder: Path) -> StorageError | None:
    """Return the `StorageError` behind an exception of something that wrote below `folder`; None: it has another cause.

    Looks for the error number in the chain of exceptions, then for its text (safetensors and other Rust writers), then
    at the disk: a file that stands at the size limit, or a probe that cannot be written.
    """
    for link in _chain(error):
        if isinstance(link, StorageError):
            return link
        if isinstance(link, OSError) and link.errno in FULL:
            return StorageError(describe(_path_of(link, folder), link.errno))
        number = next((n for n in FULL if os.strerror(n) in str(link)), None)
        if number is not None:
            return StorageError(describe(folder, number))
    at_limit = _file_at_limit(folder)
    if at_limit is not None:
        return StorageError(describe(at_limit, errno.EFBIG))
    return probe(folder)


def probe(folder: Path) -> StorageError | None:
    """Return why a small file cannot be written into `folder`, None where it can, or where it is not for space."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    size = PROBE_BYTES if limit == resource.RLIM_INFINITY else min(PROBE_BYTES, limit)
    try:
        with writing(folder), tempfile.TemporaryFile(dir=_existing(folder)) as out:
            out.write(bytes(size))
            out.flush()
            os.fsync(out.fileno())
    except StorageError as full:
        return full
    except OSError:  # read-only or gone: not a question of space
        return None
    return None


def see_room(folder: Path, needed: int, what: str) -> None:
    """See that `needed` bytes more fit on the disk of `folder`, before anything is written there.

    Raises:
        EnvironmentError_: they do not.
    """
    if needed and needed + SPARE_BYTES > shutil.disk_usage(_existing(folder)).free:
        raise EnvironmentError_(
            f"{what} needs {needed / 1e9:,.1f} GB, and {SPARE_BYTES / 1e9:.0f} GB are left to spare, but "
            f"{filesystem(folder)}; free some space, or name another disk")


def see_room_for_stage(folder: Path, needed: int, what: str) -> None:
    """The same for a job, with nothing to spare: a small stage runs on a small disk.

    Raises:
        StorageError: they do not; so nothing is wrong with the stage, and the sweep pauses.
    """
    if needed > shutil.disk_usage(_existing(folder)).free:
        raise StorageError(f"{what} needs about {needed / 1e9:,.3f} GB, but {filesystem(folder)}; nothing was written: "
                           "free some space, then run the same command again")


def describe(path: Path, number: int) -> str:
    """Return the message for a file that could not be written: file, filesystem, what is free, what to do."""
    if number == errno.EFBIG:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        stated = "of its filesystem" if limit == resource.RLIM_INFINITY else f"of this process, {limit / 1e6:,.1f} MB"
        return (f"{path} would grow beyond the file-size limit {stated} ({filesystem(path)}); raise it "
                "(`ulimit -f unlimited`), then run the same command again")
    if number == errno.EDQUOT:
        return (f"{path} cannot be written: the disk quota on {filesystem(path)} is used up; free some space or have "
                "the quota raised, then run the same command again")
    return (f"{path} cannot be written: no space is left on {filesystem(path)}; free some space, then run the same "
            "command again")


def filesystem(path: Path) -> str:
    """Return `MOUNT (DEVICE, TYPE; N MB and M more files free)` of the filesystem that holds `path`."""
    existing = _existing(path)
    try:
        usage = os.statvfs(existing)
    except OSError as error:
        return f"{existing} ({error.strerror})"
    free = f"{usage.f_bavail * usage.f_frsize / 1e6:,.1f} MB"
    if usage.f_files:  # filesystems without a table of inodes say 0
        free += f" and {usage.f_favail:,} more files"
    mount, device, kind = _mount(existing)
    return f"{mount} ({device}, {kind}; {free} free)"


def _mount(path: Path) -> tuple[str, str, str]:
    """Return mount point, device and type of the filesystem of an existing path (proc(5), fstab(5) for the escapes)."""
    real = path.resolve()
    found = str(real), "device not known", "type not known"
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return found
    longest = -1
    for line in lines:
        device, mount, kind, *_ = (_unescape(word) for word in line.split(" "))
        if real.is_relative_to(mount) and len(mount) >= longest:  # of two on one mount point the later one is seen
            found, longest = (mount, device, kind), len(mount)
    return found


def _unescape(word: str) -> str:
    for written, meant in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        word = word.replace(written, meant)
    return word


def _existing(path: Path) -> Path:
    """Return the nearest folder or file on the way to `path` that exists."""
    return next((p for p in (path, *path.parents) if p.exists()), Path("/"))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it came from; a chain that bites its tail ends."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _path_of(error: OSError, folder: Path) -> Path:
    return Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else folder


def _file_at_limit(folder: Path) -> Path | None:
    """Return a file that has grown to this process's limit exactly: a writer that does not say EFBIG stopped there."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    return next((p for p in folder.rglob("*") if p.is_file() and p.stat().st_size >= limit), None)
