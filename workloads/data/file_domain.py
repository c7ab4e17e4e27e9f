"""A domain made of files that lie here. Light until it reads. A person's own is a file like this:

    from workloads.data.file_domain import FilesScience, Paths, file_domain

    class Notes(FilesScience):
        paths: Paths = ("/data/notes/*.jsonl.gz",)
        column: str = "body"
        licence: str = "our own"

    PLUGIN = file_domain(Notes)

Named in the sweep file (`plugins: [notes.py]`), its key is `notes`, and each field can be set as `notes.FIELD`.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from sweeps.errors import UsageError
from sweeps.language.plugins import ASIDE, Domain
from sweeps.language.text_size import TextSize
from workloads.data.digests import digest_of
from workloads.data.rows import DataFile, RowDocuments, RowsScience, known, plain


def absolute(paths: object) -> object:
    """Return paths as a list, if none depends on where a job is started."""
    found = (paths,) if isinstance(paths, str) else paths
    for path in found if isinstance(found, list | tuple) else ():
        if isinstance(path, str) and not path.startswith(("/", "~")):
            raise ValueError(f"{path!r} depends on where a job is started; write an absolute path or one with ~")
    return found


Paths = Annotated[tuple[str, ...], BeforeValidator(absolute), Field(min_length=1, json_schema_extra=dict(ASIDE))]


class FilesScience(RowsScience):
    """Which files, and which of their rows."""

    paths: Paths
    """Globs. Where the files lie is no part of the identity, what they hold is."""


def file_domain(science: type[FilesScience], *, revision: int = 1) -> Domain:
    """Return the domain of the files that `science` names."""
    return Domain(science=science, revision=revision, identity=identity, size=size_of,
                  implementation="workloads.data.file_domain:read")


def read(science: FilesScience) -> RowDocuments:
    """Return the documents of the files.

    Raises:
        UsageError: there is none, or one is of no known format.
    """
    return RowDocuments("files", list(files_of(science.paths)), science)


def identity(science: FilesScience) -> Mapping[str, str | None]:
    """Return one SHA-256 over names and contents. Large files are read once and remembered.

    Raises:
        UsageError: a path leads to no file.
    """
    digest = hashlib.sha256()
    for file in files_of(science.paths):
        digest.update(f"{file.name}\0{digest_of(file.path)}\n".encode(errors="surrogateescape"))
    return {"files": digest.hexdigest()}


def size_of(science: FilesScience) -> TextSize | None:
    """Return the bytes of the files; None where one is packed or parquet: it may hold more text than it has bytes.

    Raises:
        UsageError: a path leads to no file.
    """
    files = list(files_of(science.paths))
    return TextSize(bytes=sum(f.path.stat().st_size for f in files)) if all(plain(f.name) for f in files) else None


def files_of(paths: Sequence[str]) -> Iterator[DataFile]:
    """Yield the files of each glob, by name; below a folder all of known formats.

    Raises:
        UsageError: a path leads to no file.
    """
    for number, pattern in enumerate(paths):
        base, found = _found(str(Path(pattern).expanduser()))
        if not found:
            raise UsageError(f"{pattern}: no such file here; give the path of a file or folder, or a glob such as "
                             "/data/*.parquet")
        for path in found:
            inside = path.relative_to(base).as_posix()
            yield DataFile(name=inside if len(paths) == 1 else f"{number}/{inside}", path=path)


def _found(pattern: str) -> tuple[Path, list[Path]]:
    """Return the folder before the first wildcard, and the files."""
    path = Path(pattern)
    if path.is_dir():
        return path, sorted(p for p in path.rglob("*") if p.is_file() and known(p.name))
    if path.is_file():
        return path.parent, [path]
    fixed = next(parent for parent in path.parents if not glob.has_magic(str(parent)))
    return fixed, sorted(p for p in fixed.glob(path.relative_to(fixed).as_posix()) if p.is_file())
