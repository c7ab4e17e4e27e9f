"""Ray's folder of temporary files: made by a controller, named in it, and removed by a later one where that was killed.

A socket's path has at most 107 bytes, so it cannot lie in the store.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sweeps.store import files
from sweeps.store.owner import Owner

PREFIX = "orchestrator-ray-"
OWNER = "owner.json"


def make() -> Path:
    """Return a new folder of this process; those whose owners are dead are removed first."""
    for folder in folders():
        if owner_lives(folder) is False:
            shutil.rmtree(folder, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=PREFIX))
    files.create(made / OWNER, files.to_json(Owner.me().fields()))
    return made


def folders() -> Iterator[Path]:
    """Yield the folders that this user's controllers made."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            mine = folder.lstat().st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink()
        except FileNotFoundError:  # its controller left meanwhile
            continue
        if mine:
            yield folder


def owner_lives(folder: Path) -> bool | None:
    """Tell whether the process that made a folder lives; None: another host's, or nobody says who it was."""
    try:
        return Owner.read(files.read_json(folder / OWNER)).alive()
    except (OSError, ValueError, KeyError, TypeError):
        return None
