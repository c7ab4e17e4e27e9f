"""YAML 1.2, built event by event: nothing is constructed, so no tag can run, no alias can swell, nothing recurses.

Plain scalars are read by the core schema of YAML 1.2 (`no` is a word, `5e-4` a number, a date is text). What a sweep
file has no use for is refused with its line: tags, merge keys, a second document, `%YAML 1.1`, keys that are no text.
Aliases are allowed within `MAX_VALUES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from sweeps.errors import Problem, nearest
from sweeps.language.problems import fail, given, shown, told

MAX_DEPTH = 8
"""Levels of nesting; a sweep file needs four."""
MAX_VALUES = 100_000
"""Values in a file, each alias counted with all that it stands for."""
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {text: value for value, texts in ((True, "true True TRUE"), (False, "false False FALSE"))
         for text in texts.split()}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LONGEST_NUMBER = 400
"""Characters; Python refuses to read whole numbers of more than 4,300 digits."""
_HINTS = (("'\\t'", "indent with spaces, not with tabs"), ("cannot start any token", "put the value in quotes"),
          ("mapping values are not allowed", "indent equal keys equally, and put text that holds ': ' in quotes"),
          ("expected a comment or a line break", "put the value in quotes"))


def build(builder: Builder, text: str) -> None:
    """Feed YAML text to a builder.

    Raises:
        SweepFileError: it is not YAML 1.2, or is too deep or too large.
    """
    try:
        for event in _events(text):
            builder.take(event)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        reason = (error.problem or "is not YAML").split("\n")[0]
        hint = next((f"; {hint}" for sign, hint in _HINTS if sign in reason), "")
        raise fail(builder.name, line, f"is not valid YAML 1.2: {reason}{hint}", _line_of(text, line)) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise fail(builder.name, line, f"is not valid YAML 1.2: the character {error.character:#06x} is not allowed",
                    _line_of(text, line)) from error
    except (YAMLError, ValueError, OverflowError) as error:
        # The parser's own slips on garbage: an escape beyond Unicode ("\\UFFFFFFFF") is one or the other.
        raise fail(builder.name, None, f"is not valid YAML 1.2: {(str(error) or type(error).__name__).splitlines()[0]}"
                    ) from error


def _events(text: str) -> Iterator[Any]:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    return iter(yaml.parse(text))


def _line_of(text: str, line: int | None) -> str:
    lines = text.splitlines()
    return given(lines[line - 1].strip()) if line is not None and line <= len(lines) else ""


@dataclass(kw_only=True)
class _Open:
    """A mapping or list that is being filled."""

    value: dict[str, Any] | list[Any]
    path: tuple[str, ...]
    anchor: str
    start: int
    """Values built before it."""
    key: str | None = None
    """Of a mapping: the key whose value comes next."""
    keep: bool = True
    """False: what comes next belongs to a refused key."""


class Builder:
    """Plain values from YAML events, without recursion."""

    def __init__(self, name: str) -> None:
        """`name` is the file's, for messages."""
        self.name = name
        self.root: Any = None
        self.lines: dict[tuple[str, ...], int] = {(): 1}
        self.problems: list[Problem] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        """Add one event of the parser."""
        step = getattr(self, f"_{type(event).__name__}", None)
        if step is not None:
            step(event, event.start_mark.line + 1)

    def _problem(self, line: int, key: str, value: str, message: str) -> None:
        self.problems.append(told(where=f"{shown(self.name)}:{line}", key=shown(key) or "file", given=value,
                                     message=message))

    def _path(self) -> tuple[str, ...]:
        """Return the path of the value that comes next."""
        if not self._open:
            return ()
        top = self._open[-1]
        return (*top.path, str(len(top.value)) if isinstance(top.value, list) else str(top.key))

    def _put(self, value: Any, line: int, size: int) -> None:
        self._count += size
        if self._count > MAX_VALUES:
            raise fail(self.name, line, f"holds more than {MAX_VALUES:,} values, aliases written out",
                        given(".".join(self._path())))
        if not self._open:
            self.root = value
            return
        top = self._open[-1]
        if isinstance(top.value, list):
            self.lines.setdefault(self._path(), line)
            top.value.append(value)
        elif top.key is None:
            self._start_key(top, value, line)
        else:
            if top.keep:
                top.value[top.key] = value
            top.key, top.keep = None, True

    def _start_key(self, top: _Open, value: Any, line: int) -> None:
        text = value if isinstance(value, str) else given(value)
        path = (*top.path, text)
        top.key, top.keep = text, False
        if isinstance(value, dict | list) or value is None:
            self._problem(line, ".".join(top.path), text, "is no key; a key is a word")
        elif text == "<<":
            self._problem(line, ".".join(path), "<<", "merge keys are no part of YAML 1.2; write the keys out")
        elif text in top.value:
            self._problem(line, ".".join(path), "", f"duplicate key; it was given in line {self.lines[path]} already")
        else:
            top.keep = True
            self.lines[path] = line

    def _tagged(self, event: Any, line: int) -> None:
        if event.tag not in (None, "!"):
            self._problem(line, ".".join(self._path()), given(str(event.tag)),
                          "YAML tags are not used here; write plain values")

    def _DocumentStartEvent(self, event: Any, line: int) -> None:  # noqa: N802 - named after the event
        self._documents += 1
        if self._documents > 1:
            raise fail(self.name, line, "holds a second document; one file is one sweep: remove what follows `---`",
                        "'---'")
        if event.version and tuple(event.version) != (1, 2):
            self._problem(line, "file", given("%YAML " + ".".join(map(str, event.version))),
                          "sweep files are YAML 1.2; remove this line")

    def _AliasEvent(self, event: Any, line: int) -> None:  # noqa: N802
        if any(o.anchor == event.anchor for o in self._open):
            raise fail(self.name, line, "holds itself; write the values out", given("*" + event.anchor))
        if event.anchor not in self._anchors:
            raise fail(self.name, line, f"unknown alias; {nearest(event.anchor, self._anchors)}",
                        given("*" + event.anchor))
        value, size = self._anchors[event.anchor]
        self._put(value, line, size)

    def _ScalarEvent(self, event: Any, line: int) -> None:  # noqa: N802
        self._tagged(event, line)
        plain = event.style in (None, "") and event.tag is None
        if plain and len(event.value) > _LONGEST_NUMBER and _FLOAT.fullmatch(event.value):
            self._problem(line, ".".join(self._path()), given(event.value), f"a number of {len(event.value):,} digits")
        value = scalar(event.value) if plain else event.value
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)
        self._put(value, line, 1)

    def _MappingStartEvent(self, event: Any, line: int) -> None:  # noqa: N802
        self._start(event, line, {})

    def _SequenceStartEvent(self, event: Any, line: int) -> None:  # noqa: N802
        self._start(event, line, [])

    def _start(self, event: Any, line: int, value: dict[str, Any] | list[Any]) -> None:
        self._tagged(event, line)
        if len(self._open) >= MAX_DEPTH:
            raise fail(self.name, line, f"nested deeper than {MAX_DEPTH} levels", given(".".join(self._path())))
        self._open.append(_Open(value=value, path=self._path(), anchor=event.anchor or "", start=self._count))

    def _MappingEndEvent(self, event: Any, line: int) -> None:  # noqa: N802
        done = self._open.pop()
        if done.anchor:
            self._anchors[done.anchor] = (done.value, self._count - done.start + 1)
        self._put(done.value, self.lines.get(done.path, line), 1)

    _SequenceEndEvent = _MappingEndEvent


def scalar(text: str) -> Any:
    """Return a plain scalar by the core schema of YAML 1.2."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text
