"""A sweep file from disk: its text, its values, and the line of each. A file is a regular file: a pipe could block."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.errors import Problem, SweepFileError, nearest
from sweeps.language.problems import fail, given, in_order, shown
from sweeps.language.yaml12 import Builder, build

MAX_BYTES = 100_000
"""A sweep file is a page; what is larger is some other file. Pure-Python YAML reads about 80 kB per second."""
LISTED_FILES = 8


@dataclass(frozen=True, kw_only=True)
class Source:
    """A parsed file: plain values, and where each came from."""

    name: str
    values: dict[str, Any]
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    """Key path -> line, from 1."""
    flags: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """Key path -> the flag of the command line that gave the value, for instance `--set domain=[web]`."""

    def where(self, *path: str) -> str:
        """Return `file:line` (or the flag) of the key path, or of its nearest parent."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.flags:
                return self.flags[path[:length]]
            if path[:length] in self.lines:
                return f"{shown(self.name)}:{self.lines[path[:length]]}"
        return shown(self.name)


SWEEP_HOLDS = "a sweep file has at least the keys schema_version, name and axes"


def read_text(path: Path, holds: str = SWEEP_HOLDS) -> str:
    """Return the text of a sweep file, or of another file of which `holds` says what it has at least.

    Raises:
        SweepFileError: it is missing, no regular file, unreadable, empty, too large or not UTF-8 text.
    """
    try:
        text = _read(path).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise fail(str(path), None, f"does not exist{_neighbours(path)}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise fail(str(path), line, f"is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8",
                    given(bytes(error.object[error.start:error.end]))) from error
    except OSError as error:
        raise fail(str(path), None, f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL byte in the path
        raise fail(str(path), None, f"is no path: {error}") from error
    if not text.strip():
        raise fail(str(path), None, f"is empty; {holds}")
    return text.replace("\r\n", "\n")


def _read(path: Path) -> bytes:
    _check_regular(path, path.stat())  # before it is opened: opening some devices has effects
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        _check_regular(path, about)
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        size = max(about.st_size, len(content))
        raise fail(str(path), None, f"has {size:,} bytes; a sweep file has at most {MAX_BYTES:,}", f"{size:,} bytes")
    return content


def _check_regular(path: Path, about: os.stat_result) -> None:
    if stat.S_ISDIR(about.st_mode):
        here = _listed(path)
        raise fail(str(path), None, "is a folder; name a .yaml file" + (f", for instance {here}" if here else ""))
    if not stat.S_ISREG(about.st_mode):
        kind = next((text for test, text in ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
                                             (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
                     if test(about.st_mode)), "no file")
        raise fail(str(path), None, f"is {kind}; write the sweep to a .yaml file and name that")


def _listed(folder: Path, near: str = "") -> str:
    try:
        names = sorted(p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))
    except OSError:
        return ""
    if len(names) > LISTED_FILES:
        names = [n for n in names if n == near] or names[:LISTED_FILES]
    return ", ".join(shown(str(folder / name)) for name in names)


def _neighbours(path: Path) -> str:
    here = _listed(path.parent)
    if not here:
        return "; `orchestrator schema` prints what a sweep file holds"
    _, _, hint = nearest(path.name, [p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml")]
                         ).partition(". Did")
    return f"; here are: {here}.{' Did' + hint if hint else ''}"


def parse_value(text: str, flag: str = "--set") -> Any:
    """Return one YAML value, as in `--set KEY=VALUE`.

    Raises:
        SweepFileError: it is not YAML 1.2; `flag` is named as the place.
    """
    builder = Builder(flag)
    try:
        build(builder, text)
        problems = tuple(builder.problems)
    except SweepFileError as error:
        problems = error.problems
    if problems:  # a flag has no lines
        raise SweepFileError([dataclasses.replace(p, where=shown(flag)) for p in problems])
    return builder.root


def parse(text: str, name: str) -> Source:
    """Parse YAML text into plain values with line numbers.

    Raises:
        SweepFileError: it is not YAML 1.2, is not a mapping, or has duplicate keys, tags or merge keys.
    """
    source, problems = parse_all(text, name)
    if problems:
        raise SweepFileError(in_order(problems))
    return source


def parse_all(text: str, name: str) -> tuple[Source, list[Problem]]:
    """Parse YAML text; return it with the problems that leave the rest readable (duplicate keys, tags, odd keys).

    Raises:
        SweepFileError: it is not YAML 1.2, or not a mapping.
    """
    builder = Builder(name)
    build(builder, text)
    if not isinstance(builder.root, dict):
        raise fail(name, 1, "is not a mapping of keys to values; see sweeps/complexity_by_domain.yaml",
                    given(builder.root))
    return Source(name=name, values=builder.root, lines=builder.lines), builder.problems
