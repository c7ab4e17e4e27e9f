"""Files as documents, in the order of a hash of their path, read one at a time. Light: standard library only.

The order is what makes `documents.max_bytes` a fair sample: whoever stops early has read a random, reproducible part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workloads.contract import Document


def path_hash(name: str, salt: str = "order") -> bytes:
    """Return 8 bytes that depend on `name` alone; other salts give independent orders."""
    return hashlib.sha256(f"{salt}\0{name}".encode(errors="surrogateescape")).digest()[:8]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A document that may be read."""

    source: str
    """Package and version, or the name of a folder."""
    path: str
    """Path inside the source."""
    read: Callable[[], str]
    """Returns the text; empty: nothing of use there. May raise OSError, SyntaxError or ValueError: then it is
    skipped and counted."""
    package: str = ""
    """Source without its version, so that a new version keeps the order; empty: the source."""

    @property
    def name(self) -> str:
        """What the order depends on."""
        return f"{self.package or self.source}/{self.path}"


class Documents:
    """The documents of candidates, in hash order, each read only when it is asked for."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        """Nothing is read yet."""
        self._candidates = sorted(candidates, key=lambda c: (path_hash(c.name), c.name))
        self.skipped: list[str] = []
        """`source/path: reason` of every file that could not be read so far."""

    def __len__(self) -> int:
        """Candidates; some may turn out to be empty."""
        return len(self._candidates)

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents that hold text."""
        from workloads.contract import Document

        for candidate in self._candidates:
            try:
                text = candidate.read()
            except (OSError, SyntaxError, ValueError, RecursionError) as error:
                self.skipped.append(f"{candidate.name}: {type(error).__name__}: {error}")
                continue
            if text:
                yield Document(source=candidate.source, path=candidate.path, text=text)


def read_text(file: Path) -> str:
    """Return a file's UTF-8 text; a byte order mark is dropped.

    Raises:
        ValueError: it is not UTF-8 (UnicodeDecodeError).
        OSError: it cannot be read.
    """
    return file.read_text(encoding="utf-8-sig")
