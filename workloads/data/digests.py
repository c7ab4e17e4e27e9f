"""SHA-256 of large files, remembered: reading a terabyte at every plan would take an hour. Light.

What is remembered is advisory: a digest counts while size, inode and both times of the file are those it was made at
(the change time cannot be set back by a copying program). Deleting the folder costs time only.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

from sweeps.store.files import sha256_file

SMALL_BYTES = 1 << 20
"""Read anew each time."""
SETTLED_SECONDS = 2.0
"""A file changed within these may change again without another time: it is not remembered yet."""


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    stat = path.stat()
    if stat.st_size < SMALL_BYTES:
        return sha256_file(path)
    state = f"{stat.st_size} {stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    note = _folder() / hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    with suppress(OSError, ValueError):
        known, _, digest = note.read_text(encoding="ascii").rpartition(" ")
        if known == state and len(digest) == 64:
            return digest
    settled = time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED_SECONDS * 1e9
    digest = sha256_file(path)
    if settled:
        with suppress(OSError):  # a home that cannot be written: it is read again next time
            note.parent.mkdir(parents=True, exist_ok=True)
            beside = note.with_suffix(f".{os.getpid()}")
            beside.write_text(f"{state} {digest}", encoding="ascii")
            beside.rename(note)
    return digest


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache else Path.home() / ".cache") / "orchestrator" / "sha256"
