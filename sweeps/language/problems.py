"""How a problem of a sweep file is told: the value as written, in the order of the file, no raw control code."""

from __future__ import annotations

from collections.abc import Iterable

from sweeps.errors import Problem, SweepFileError

SHOWN_CHARS = 80
"""At most this much of a given value is repeated in a message."""


def shown(text: str) -> str:
    """Return text without control characters, so that a file's name or key cannot break a message or a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def given(value: object) -> str:
    """Return a value as a person wrote it, shortened."""
    text = {None: "null", True: "true", False: "false"}[value] if value is None or value is True or value is False \
        else repr(value)
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "..."


def told(*, where: str, key: str, given: str, message: str) -> Problem:
    """Return a problem without a control character in any part; keys and values of a file can hold them."""
    return Problem(where=shown(where), key=shown(key) or "file", given=shown(given), message=shown(message))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems as a reader meets them: file by file, line by line; flags of the command line come last."""
    def place(problem: Problem) -> tuple[bool, str, int]:
        name, mark, line = problem.where.rpartition(":")
        numbered = bool(mark) and line.isdecimal()
        return problem.where.startswith("--"), name if numbered else problem.where, int(line) if numbered else 0

    return sorted(dict.fromkeys(problems), key=place)


def fail(name: str, line: int | None, message: str, value: str = "") -> SweepFileError:
    """Return the error of a file that cannot be used any further."""
    where = shown(name) if line is None else f"{shown(name)}:{line}"
    return SweepFileError([told(where=where, key="file", given=value, message=message)])
