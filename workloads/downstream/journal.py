"""What a stage finds out one by one, kept as it comes, so that another attempt goes on after the last entry.

Each attempt writes only its own file: first what it takes over from earlier attempts, then what it finds itself. A line
that is torn or altered is no line. The first line says what makes entries comparable bit by bit (shape of the batches,
kind of device, the items); what was written under another head is not taken over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from sweeps.errors import RecordError
from sweeps.store import files
from sweeps.store.records import Attempt
from sweeps.store.space import writing


class Entry(Protocol):
    """A dataclass whose fields JSON has."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def key(self) -> Hashable:
        """What there is one entry of."""
        ...


E = TypeVar("E", bound=Entry)


class Journal(Generic[E]):
    """The entries of one attempt."""

    def __init__(self, attempt: Attempt, name: str, head: Mapping[str, Any], keys: Iterable[Hashable],
                 of: Callable[[dict[str, Any]], E]) -> None:
        """Take over the entries with these keys that earlier attempts have left under the same head.

        Args:
            attempt: whose folder it is in.
            name: of the file.
            head: what makes entries comparable.
            keys: of all entries that there will be.
            of: fields of a line -> entry.

        Raises:
            RecordError: two sound lines of one key differ, or a key is not one of these.
        """
        self._known = frozenset(keys)
        self._path = attempt.folder.path / name
        self.entries: dict[Hashable, E] = {}
        with writing(self._path):
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._lines = 0
        try:
            self._append(head)
            for number in range(1, attempt.folder.number):
                for fields in earlier(attempt.stage.attempt(number).path / name, head):
                    self.add(of(fields))
        except BaseException:
            self.close()
            raise

    def add(self, entry: E) -> None:
        """Keep an entry.

        Raises:
            RecordError: its key is none that there should be, or has another entry already.
        """
        held = self.entries.get(entry.key)
        if entry.key not in self._known or (held is not None and held != entry):
            reason = "is no item of the task" if held is None else "was scored twice, and differently"
            raise RecordError(f"{self._path}: {entry.key} {reason}; remove the stage's folder to score it anew")
        if held is None:
            self.entries[entry.key] = entry
            self._append(asdict(entry))

    def _append(self, fields: Mapping[str, Any]) -> None:
        files.append(self._file, self._path, files.encode_line(self._lines, fields))
        self._lines += 1

    def close(self) -> None:
        """Close the file; again is harmless."""
        handle, self._file = self._file, -1
        with suppress(OSError):
            os.close(handle)


def earlier(path: Path, head: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the fields of the sound lines in a journal; none where its head is another."""
    lines = files.read_lines(path)
    first = next(lines, None)
    if first is None or {k: v for k, v in first.items() if k != "n"} != dict(head):
        return
    for line in lines:
        if line is not None and line.pop("n", 0):
            yield line
