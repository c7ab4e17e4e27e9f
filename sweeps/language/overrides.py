"""What the command line changes in a sweep file: it passes the same checks, and a problem names the flag."""

from __future__ import annotations

import re
from typing import Any

from sweeps.errors import Problem, SweepFileError, nearest
from sweeps.language.problems import given, in_order, shown, told
from sweeps.language.read import Source, parse_value
from sweeps.language.stage import Frozen

MAX_SEEDS = 10_000
SETTABLE = ("protocol", "scale", "question", "name", "searched")
"""Keys without a dot that `--set` may change beside the axes."""


class Overrides(Frozen):
    """What the command line changes; passes the same checks as the file, and is recorded."""

    sets: tuple[str, ...] = ()
    """`AXIS_OR_FIELD=VALUE`, the value read as YAML."""
    scale: str | None = None
    seeds: str | None = None
    """`N` (seeds 0..N-1) or a list `0,3,5`."""
    cluster: str | None = None
    max_gpu_hours: str | None = None
    """As written: the schema judges it."""
    at_cap: str | None = None

    def texts(self) -> tuple[str, ...]:
        """Return the overrides as recorded in the store."""
        named = [f"scale={self.scale}" if self.scale else "", f"seeds={self.seeds}" if self.seeds else ""]
        return tuple(t for t in (*named, *self.sets) if t)


def apply(source: Source, overrides: Overrides) -> Source:
    """Return the source with the command line's values in place of the file's.

    Raises:
        SweepFileError: with every override that cannot be used; the place is the flag.
    """
    changed, problems = applied(source, overrides)
    if problems:
        raise SweepFileError(in_order(problems))
    return changed


def applied(source: Source, overrides: Overrides) -> tuple[Source, list[Problem]]:
    """Return the source with the command line's values, and every override that cannot be used."""
    changes = _Changes(source)
    for text in overrides.sets:
        try:
            changes.set(text)
        except SweepFileError as error:
            changes.problems += error.problems
    if overrides.scale is not None:
        changes.put(("scale",), overrides.scale, f"--scale {overrides.scale}")
    if overrides.cluster is not None:
        changes.put(("run", "cluster"), overrides.cluster, f"--cluster {overrides.cluster}")
    if overrides.max_gpu_hours is not None:
        changes.put(("run", "max_gpu_hours"), _number(overrides.max_gpu_hours),
                    f"--max-gpu-hours {overrides.max_gpu_hours}")
    if overrides.at_cap is not None:
        changes.put(("run", "at_cap"), overrides.at_cap, f"--at-cap {overrides.at_cap}")
    if overrides.seeds is not None:
        flag = f"--seeds {overrides.seeds}"
        try:
            changes.put(("axes", "seed"), _seeds(overrides.seeds), flag)
        except ValueError as error:
            changes.problems.append(told(where=shown(flag), key="axes.seed", given=given(overrides.seeds),
                                            message=str(error)))
    return Source(name=source.name, values=changes.values, lines=changes.lines, flags=changes.flags), changes.problems


class _Changes:
    """A source's values while the command line changes them."""

    def __init__(self, source: Source) -> None:
        self.values = {**source.values}
        self.lines = dict(source.lines)
        self.flags = dict(source.flags)
        self.problems: list[Problem] = []

    def put(self, path: tuple[str, ...], value: Any, flag: str) -> None:
        """Put a value in place of the file's; a parent that is no mapping stays, for the schema to refuse."""
        top, *below = path
        if not below:
            self.values[top] = value
        else:
            parent = self.values.get(top)
            if parent is not None and not isinstance(parent, dict):
                return
            self.values[top] = {**(parent or {}), below[0]: value}
        self.lines = {p: line for p, line in self.lines.items() if p[:len(path)] != path}
        self.flags[path] = shown(flag)

    def keys(self, section: str) -> list[str]:
        """Return the keys of a section, none where it is no mapping."""
        found = self.values.get(section)
        return list(found) if isinstance(found, dict) else []

    def set(self, text: str) -> None:
        """Apply one `--set KEY=VALUE`.

        Raises:
            SweepFileError: it is no assignment, no YAML, or names nothing that can be set.
        """
        flag = f"--set {text}"
        key, mark, written = (part.strip() for part in text.partition("="))
        if not mark or not key or not written:
            raise _flag_error(flag, key, "write --set AXIS_OR_FIELD=VALUE, for instance --set domain=[web]")
        value = parse_value(written, flag)
        if key in self.keys("axes") or ("." not in key and isinstance(value, list)):
            self.put(("axes", key), value if isinstance(value, list) else [value], flag)
        elif "." in key:
            self.put(("fields", key), value, flag)
        elif key in SETTABLE:
            self.put((key,), value, flag)
        else:
            known = [*self.keys("axes"), *self.keys("fields"), *SETTABLE]
            raise _flag_error(flag, key, f"neither an axis of this sweep nor a dotted field; {nearest(key, known)}")


def _flag_error(flag: str, key: str, message: str) -> SweepFileError:
    return SweepFileError([Problem(where=shown(flag), key=shown(key) or "--set", given="", message=message)])


def _number(text: str) -> float | str:
    """Return a number, or the text for the schema to refuse."""
    try:
        return float(text)
    except ValueError:
        return text


def _seeds(text: str) -> list[int]:
    """Return the seeds of `--seeds N|LIST`.

    Raises:
        ValueError: it is neither, or too many.
    """
    if re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        if int(text) > MAX_SEEDS:
            raise ValueError(f"a sweep has at most {MAX_SEEDS:,} seeds")
        return list(range(int(text)))
    if re.fullmatch(r"\[?\s*[0-9]{1,20}(\s*,\s*[0-9]{1,20})*\s*\]?", text) and "," in text:
        return [int(part) for part in text.strip("[] ").split(",")]
    raise ValueError("write a number of seeds (3) or a list of seeds (0,1,4)")
