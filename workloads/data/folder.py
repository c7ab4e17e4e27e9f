"""A folder of text files as a domain: what a person's own domain needs. Light: standard library only.

    from pathlib import Path
    from sweeps.language.plugins import Domain, Science
    from workloads.data.folder import folder_identity, read_folder

    class NotesScience(Science):
        suffix: str = ".md"

    FOLDER = Path("~/notes").expanduser()
    PLUGIN = Domain(
        science=NotesScience, revision=1, implementation=":read",
        identity=lambda science: folder_identity(FOLDER, science.suffix),
    )

    def read(science):
        return read_folder(FOLDER, science.suffix)
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from sweeps.errors import EnvironmentError_
from sweeps.store.files import sha256_file
from workloads.data.documents import Candidate, Documents, read_text


def read_folder(path: Path, suffix: str, *, extract: Callable[[str], str] = str) -> Documents:
    """Return the files below `path` whose name ends in `suffix`, one document each, in hash order.

    Args:
        path: the folder; searched recursively, links to folders are not followed.
        suffix: end of the file names, for instance `.txt`; empty: every file.
        extract: file text -> document text; empty where there is nothing of use.

    Raises:
        EnvironmentError_: the folder is missing or holds no such file.
    """
    candidates = [
        Candidate(source=path.name, path=name, read=functools.partial(_extracted, path / name, extract))
        for name in _names(path, suffix)
    ]
    if not candidates:
        raise EnvironmentError_(f"{path} holds no file that ends in {suffix!r}; put text there or name another folder")
    return Documents(candidates)


def folder_identity(path: Path, suffix: str) -> Mapping[str, str | None]:
    """Return {folder name: SHA-256 over names and contents}, None where there is no such file. Reads every file."""
    digest = hashlib.sha256()
    names = _names(path, suffix)
    for name in names:
        digest.update(f"{name}\0{sha256_file(path / name)}\n".encode(errors="surrogateescape"))
    return {path.name: digest.hexdigest() if names else None}


def _names(path: Path, suffix: str) -> list[str]:
    return sorted(str(f.relative_to(path)) for f in path.rglob(f"*{suffix}") if f.is_file())


def _extracted(file: Path, extract: Callable[[str], str]) -> str:
    return extract(read_text(file))
