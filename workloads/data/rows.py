"""Documents out of files of rows: parquet, JSON lines, plain text; `.gz` and `.zst` of the latter two.

One row is one document (one file, where it is plain text). Files are read in the order of a hash of their names, rows
in their own order, one at a time: whoever stops early (`documents.max_bytes`) has read a reproducible part, and memory
holds one batch of rows. Light: libraries are imported where a file needs them.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator, model_validator

from sweeps.errors import EnvironmentError_, UsageError, nearest
from sweeps.language.plugins import ASIDE, Science
from sweeps.language.science import Positive
from workloads.data.documents import path_hash

if TYPE_CHECKING:
    from workloads.contract import Document

PARQUET, JSONL, TEXT = (".parquet",), (".jsonl", ".ndjson", ".json"), (".txt", ".md")
PACKED = (".gz", ".zst")
BATCH_ROWS = 256
"""Rows of a parquet file held at a time."""
UNPACKED = 3
"""Bytes of text in a byte of a packed or parquet file, about (C4 2.5, open-web-math 2.1 with all its columns)."""

Value = str | int | float | bool


class RowsScience(Science):
    """Which rows are documents."""

    column: str = "text"
    """Holds the text; of no meaning in plain text files."""
    where: dict[str, tuple[Value, ...]] = {}
    """Column -> values: rows are read whose column is one of them, `{license: [mit, apache-2.0]}`."""
    min_chars: Positive = 1
    """Shorter documents are left out."""
    max_chars: Positive | None = None
    """Longer documents are left out; None: none is too long."""
    licence: Annotated[str, Field(json_schema_extra=dict(ASIDE))] = ""
    """Of the text, for people; recorded with the stage, and no part of its identity."""

    @field_validator("where", mode="before")
    @classmethod
    def _lists(cls, where: Any) -> Any:
        if isinstance(where, Mapping):
            return {k: v if isinstance(v, list | tuple) else [v] for k, v in where.items()}
        return where

    @model_validator(mode="after")
    def _possible(self) -> RowsScience:
        if self.max_chars is not None and self.max_chars < self.min_chars:
            raise ValueError(f"max_chars {self.max_chars} is below min_chars {self.min_chars}: no document fits")
        return self


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file of rows."""

    name: str
    """Inside its folder or repository: the documents' names, and so order and split, depend on it, never on where it
    lies."""
    path: Path


class RowDocuments:
    """The documents of files of rows."""

    def __init__(self, source: str, files: Sequence[DataFile], science: RowsScience) -> None:
        """Nothing is read yet.

        Args:
            source: what the documents are of, for the manifest.
            files: of known formats.
            science: which rows.

        Raises:
            UsageError: a file is of no known format.
        """
        unknown = [f.path for f in files if not known(f.name)]
        if unknown:
            raise UsageError(f"{unknown[0]} is of no known format; give {', '.join((*PARQUET, *JSONL, *TEXT))}, the "
                             f"latter two kinds also packed as {' or '.join(PACKED)}")
        self._source, self._science = source, science
        self._files = sorted(files, key=lambda f: (path_hash(f.name), f.name))

        self._columns = [science.column, *science.where]

    @property
    def text_bytes(self) -> int:
        """Bytes of text in the files, about; where none is packed it is no less."""
        return sum(f.path.stat().st_size * (1 if plain(f.name) else UNPACKED) for f in self._files)

    def read_one(self) -> None:
        """Read the first row of every file, which tells whether it has the columns.

        Raises:
            EnvironmentError_: a file cannot be read, or lacks a column.
        """
        for file in self._files:
            next(iter(read_rows(file, self._columns)), None)

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents.

        Raises:
            EnvironmentError_: a file cannot be read, or lacks a column.
        """
        from workloads.contract import Document

        science = self._science
        for file in self._files:
            for number, row in enumerate(read_rows(file, self._columns)):
                text = row.get(science.column)
                if not isinstance(text, str) or not _fits(row, text, science):
                    continue
                yield Document(source=self._source, path=f"{file.name}#{number}", text=text)


def known(name: str) -> bool:
    """Return whether a file's name is that of a known format."""
    plain = _unpacked(name)
    return name.endswith(PARQUET) or plain.endswith((*JSONL, *TEXT))


def plain(name: str) -> bool:
    """Return whether a file of this name holds no more text than it has bytes: it is neither packed nor parquet."""
    return not name.endswith((*PARQUET, *PACKED))


def _unpacked(name: str) -> str:
    return next((name.removesuffix(end) for end in PACKED if name.endswith(end)), name)


def _fits(row: Mapping[str, Any], text: str, science: RowsScience) -> bool:
    if not science.min_chars <= len(text) <= (science.max_chars or len(text)):
        return False
    return all(row[column] in values for column, values in science.where.items())


def read_rows(file: DataFile, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a file, each with at least the columns that are asked for; a text file is one row of the first.

    Raises:
        EnvironmentError_: the file cannot be read, or lacks a column.
    """
    path, name, wanted = file.path, file.name, list(dict.fromkeys(columns))
    try:
        if name.endswith(PARQUET):
            yield from _parquet_rows(path, wanted)
        elif _unpacked(name).endswith(JSONL):
            yield from _json_rows(path, wanted)
        else:
            with _opened(path) as lines:
                yield {wanted[0]: lines.read()}
    except (OSError, ValueError, EOFError, zlib.error) as error:  # pyarrow's and JSON's are of these
        raise EnvironmentError_(f"{path} cannot be read ({type(error).__name__}: {error}); it may have been copied or "
                                "downloaded in part: bring it again") from error


def _parquet_rows(path: Path, columns: list[str]) -> Iterator[Mapping[str, Any]]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        _see_columns(path, columns, file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
            yield from batch.to_pylist()


def _json_rows(path: Path, columns: list[str]) -> Iterator[Mapping[str, Any]]:
    with _opened(path) as lines:
        for line in lines:
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"a line holds a {type(row).__name__} where an object was expected")
                _see_columns(path, columns, row)
                yield row


def _see_columns(path: Path, columns: list[str], present: Any) -> None:
    missing = [c for c in columns if c not in present]
    if missing:
        raise EnvironmentError_(f"{path} has no column {missing[0]!r}; {nearest(missing[0], map(str, present))} Set "
                                "the domain's `column` or `where`")


def _opened(path: Path) -> io.TextIOBase:
    """Open a text file, packed or not; a byte order mark is dropped."""
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig")
    if path.name.endswith(".zst"):
        import pyarrow  # says so where a file ends too early

        return io.TextIOWrapper(pyarrow.input_stream(str(path), compression="zstd"), encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")
