"""Losses that were measured elsewhere, as arms that are only looked at: a CSV file of `tokens,val_loss[,seed]`.

    logs:
      their_nca: {file: logs/nca.csv, domain: web, upstream_tokens: 164M}

No stage reads them: they are read when a report is made, and `plan.json` has their SHA-256. Light.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.errors import Problem, SweepFileError, nearest
from sweeps.language.problems import told
from sweeps.language.stage import Written
from sweeps.language.units import Amount

NEEDED, OPTIONAL = ("tokens", "val_loss"), ("seed",)


class Log(Written):
    """Losses that were measured elsewhere, shown beside the sweep's own."""

    file: str
    """CSV file `tokens,val_loss[,seed]`, relative to the sweep file: pre-training tokens, nats per token."""
    domain: str
    """A domain of the sweep."""
    upstream_tokens: Amount | None = None
    """Tokens that it was pre-pre-trained on, charged; None: none."""


@dataclass(frozen=True, kw_only=True)
class LogRow:
    """One evaluation."""

    tokens: float
    """Pre-training tokens, those of the upstream apart."""
    loss: float
    """Held-out loss, nats per token."""
    seed: int | None


def read_log(path: Path) -> list[LogRow]:
    """Return the evaluations of a log.

    Raises:
        SweepFileError: it cannot be read; with every problem, by file and line.
    """
    problems: list[Problem] = []
    found: dict[tuple[int | None, float], LogRow] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            problems += _header(path, reader.fieldnames or ())
            for row in () if problems else reader:
                try:
                    made = _row(row)
                    if found.setdefault((made.seed, made.tokens), made) is not made:
                        raise ValueError(f"a second loss at {made.tokens:,.0f} tokens")
                except (ValueError, TypeError) as error:
                    problems.append(_problem(path, reader.line_num, str(error)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(_problem(path, 1, f"cannot be read: {getattr(error, 'strerror', None) or error}"))
    if not found and not problems:
        problems.append(_problem(path, 1, "holds no loss"))
    if problems:
        raise SweepFileError(problems)
    return list(found.values())


def _header(path: Path, names: Sequence[str]) -> Iterator[Problem]:
    known = (*NEEDED, *OPTIONAL)
    for name in NEEDED:
        if name not in names:
            yield _problem(path, 1, f"has no column {name}; its first line is {','.join(NEEDED)}, and "
                                    f"{','.join(OPTIONAL)} where there are several")
    for name in names:
        if name not in known:
            yield _problem(path, 1, f"unknown column {name!r}; {nearest(name, known)}")


def _row(row: Mapping[str, str | None]) -> LogRow:
    numbers = {}
    for name in NEEDED:
        try:
            numbers[name] = float(row[name] or "")
        except ValueError:
            raise ValueError(f"{name} is {row[name]!r}, and must be a number") from None
        if not math.isfinite(numbers[name]) or numbers[name] <= 0:
            raise ValueError(f"{name} is {row[name]}, and must be finite and above 0")
    seed = row.get("seed")
    if "seed" in row and not str(seed).isdecimal():
        raise ValueError(f"seed is {seed!r}, and must be a whole number")
    if None in row:
        raise ValueError("has more values than the first line has names")
    return LogRow(tokens=numbers["tokens"], loss=numbers["val_loss"], seed=int(seed) if seed is not None else None)


def _problem(path: Path, line: int, message: str) -> Problem:
    return told(where=f"{path}:{line}", key="logs", given="", message=message)
