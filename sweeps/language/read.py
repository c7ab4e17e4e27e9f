"""YAML 1.2 with line numbers, duplicate keys refused, tags never run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sweeps.errors import Problem, SweepFileError

MAX_BYTES = 1_000_000
"""A sweep file is a page; what is larger is some other file."""
MAX_DEPTH = 8


@dataclass(frozen=True, kw_only=True)
class Source:
    """A parsed file: plain values, and where each came from."""

    name: str
    values: dict[str, Any]
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    """Key path -> line, from 1."""

    def where(self, *path: str) -> str:
        """Return `file:line` of the key path, or of its nearest parent."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return f"{self.name}:{self.lines[path[:length]]}"
        return self.name


def _fail(name: str, line: int | None, message: str) -> SweepFileError:
    where = name if line is None else f"{name}:{line}"
    return SweepFileError([Problem(where=where, key="file", given="", message=message)])


def read_text(path: Path) -> str:
    """Return the text of a sweep file.

    Raises:
        SweepFileError: it is missing, a folder, unreadable, empty, too large or not UTF-8 text.
    """
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise _fail(str(path), None, "is a folder; name a .yaml file")
        if size > MAX_BYTES:
            raise _fail(str(path), None, f"has {size:,} bytes; a sweep file has at most {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = ", ".join(sorted(str(p) for p in path.parent.glob("*.yaml"))) if path.parent.is_dir() else ""
        hint = f"; here are: {near}" if near else "; write one with `orchestrator schema` at hand"
        raise _fail(str(path), None, f"does not exist{hint}") from error
    except UnicodeDecodeError as error:
        raise _fail(str(path), None, f"is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise _fail(str(path), None, f"cannot be read: {error.strerror}") from error
    if not text.strip():
        raise _fail(str(path), None, "is empty")
    return text


def parse_value(text: str) -> Any:
    """Return one YAML value, as in `--set KEY=VALUE`."""
    loaded = _loader().load(text)
    return _plain(loaded, (), {}, "--set")


def _loader() -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.version = (1, 2)
    yaml.allow_duplicate_keys = False
    return yaml


def parse(text: str, name: str) -> Source:
    """Parse YAML text into plain values with line numbers.

    Raises:
        SweepFileError: it is not YAML 1.2, has duplicate keys or tags, or is not a mapping.
    """
    try:
        loaded = _loader().load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        reason = (error.problem or "is not YAML").split("\n")[0]
        raise _fail(name, line, f"is not valid YAML 1.2: {reason}") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise _fail(name, None, f"is not valid YAML 1.2: {str(error).splitlines()[0]}") from error
    if not isinstance(loaded, CommentedMap):
        raise _fail(name, 1, "is not a mapping of keys to values; see sweeps/complexity_by_domain.yaml")
    lines: dict[tuple[str, ...], int] = {(): 1}
    return Source(name=name, values=_plain(loaded, (), lines, name), lines=lines)


def _plain(value: Any, path: tuple[str, ...], lines: dict[tuple[str, ...], int], name: str) -> Any:
    if len(path) > MAX_DEPTH:
        raise _fail(name, None, f"{'.'.join(path)}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, TaggedScalar) or getattr(getattr(value, "tag", None), "value", None):
        raise _fail(name, lines.get(path), f"{'.'.join(path)}: YAML tags are not used here; write plain values")
    if isinstance(value, CommentedMap):
        plain: dict[str, Any] = {}
        for key, inner in value.items():
            here = (*path, str(key))
            lines[here] = value.lc.key(key)[0] + 1 if key in (value.lc.data or {}) else lines.get(path, 1)
            plain[str(key)] = _plain(inner, here, lines, name)
        return plain
    if isinstance(value, CommentedSeq):
        return [_plain(inner, (*path, str(i)), lines, name) for i, inner in enumerate(value)]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    return str(value)
