"""A file of loss curves, anybody's, read and checked: columns panel, upstream, tokens, val_loss, in CSV or Parquet.

`seed` and `upstream_tokens` are optional columns, others are named and left alone, rows may stand in any order. Every
problem of the file is told in one answer, with its line, column and value. A loss that is nan, inf or empty (as pandas
writes nan) is no mistake of the file: that run diverged, is counted, and never scored.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sweeps.errors import EnvironmentError_, Problem, SweepFileError, UsageError, nearest
from sweeps.language.units import MAX_TOKENS, Amount

REQUIRED = ("panel", "upstream", "tokens", "val_loss")
OPTIONAL = ("seed", "upstream_tokens")
PARQUET = (".parquet", ".pq")
MOST_PROBLEMS = 20
"""Problems that are written out; the number of the others follows."""
Row = Mapping[str, Any] | int
"""Column -> value; of a row that does not fit the header, how many values it has."""


class RunKey(NamedTuple):
    """What one curve belongs to."""

    panel: str
    upstream: str
    seed: int


@dataclass
class Run:
    """One curve as the file has it."""

    points: dict[float, float] = field(default_factory=dict)
    """Tokens -> validation loss in nats per token; nan and inf as written."""
    lines: dict[float, int] = field(default_factory=dict)
    """Tokens -> line (CSV) or row (Parquet), both from 1."""
    upstream_tokens: int | None = None
    """T_ppt as the file says; None: it does not."""

    @property
    def diverged(self) -> bool:
        """True where a loss is not finite."""
        return not all(math.isfinite(loss) for loss in self.points.values())


@dataclass(frozen=True, kw_only=True)
class CurveFile:
    """A file's curves, in the order in which they first appear."""

    path: Path
    runs: Mapping[RunKey, Run]
    notes: Sequence[str]
    """What a reader should know of the file: columns left alone, repeated rows, runs that diverged."""


def read_curves(path: Path) -> CurveFile:
    """Return the curves of a file.

    Raises:
        UsageError: there is no such file, or it is no CSV or Parquet file.
        SweepFileError: its problems, all at once.
        EnvironmentError_: it is Parquet, and pyarrow is not installed.
    """
    reader = _Reader(path)
    for line, values in _parquet(path) if path.suffix.lower() in PARQUET else _csv(path):
        reader.take(line, values)
    return reader.made()


def parse_upstream_tokens(value: Any) -> int:
    """Return upstream tokens: `164M`, `163840000`, or 0 of an arm that had none.

    Raises:
        ValueError: it is no whole number of tokens.
    """
    tokens = _tokens(value)
    if tokens != int(tokens):
        raise ValueError(f"is not a whole number of tokens; write {Amount.examples.split(' (')[0]}")
    return int(tokens)


def refuse(problems: Sequence[Problem], path: Path) -> None:
    """Raise the problems of a file, if it has any.

    Raises:
        SweepFileError: it has.
    """
    if problems:
        rest = len(problems) - MOST_PROBLEMS
        more = Problem(where=str(path), key="file", given="", message=f"has {rest} more problems of these kinds")
        raise SweepFileError([*problems[:MOST_PROBLEMS], *([more] if rest > 0 else [])])


class _Reader:
    """Takes rows one after another; keeps curves and problems."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: dict[RunKey, Run] = {}
        self.problems: list[Problem] = []
        self.repeated: list[int] = []
        self.empty: list[int] = []
        self.others: list[str] = []
        self.seen = False

    def take(self, line: int, values: Row) -> None:
        if isinstance(values, int):
            self._problem(line, "row", None, f"has {values} values, the header another number of columns; a value with "
                                             "a comma stands in double quotes")
            self.seen = True
            return
        if not self.others:
            self.others = [c for c in values if c not in (*REQUIRED, *OPTIONAL)]
        self.seen, before = True, len(self.problems)
        panel, upstream = (self._value(line, values, c, _name) for c in ("panel", "upstream"))
        seed = self._value(line, values, "seed", _seed) if "seed" in values else 0
        tokens = self._value(line, values, "tokens", _tokens)
        loss = math.nan
        if _empty(values["val_loss"]):
            self.empty.append(line)
        else:
            loss = self._value(line, values, "val_loss", _loss)
        charged = None
        if not _empty(values.get("upstream_tokens")):
            charged = self._value(line, values, "upstream_tokens", parse_upstream_tokens)
        if len(self.problems) == before:
            self._add(line, RunKey(panel, upstream, seed), tokens, loss)
            self._charge(line, RunKey(panel, upstream, seed), charged)

    def _value(self, line: int, values: Mapping[str, Any], column: str, parse: Callable[[Any], Any]) -> Any:
        given = values[column]
        try:
            if _empty(given):
                raise ValueError("is empty")
            return parse(given)
        except ValueError as error:
            self._problem(line, column, given, str(error))
            return None

    def _problem(self, line: int, column: str, given: Any, message: str) -> None:
        shown = "" if given is None else repr(given)[:80]
        self.problems.append(Problem(where=f"{self.path}:{line}", key=column, given=shown, message=message))

    def _add(self, line: int, key: RunKey, tokens: float, loss: float) -> None:
        run = self.runs.setdefault(key, Run())
        if tokens not in run.points:
            run.points[tokens], run.lines[tokens] = loss, line
        elif run.points[tokens] == loss or (math.isnan(run.points[tokens]) and math.isnan(loss)):
            self.repeated.append(line)
        else:
            self._problem(line, "val_loss", loss, f"line {run.lines[tokens]} has {run.points[tokens]:g} for the same "
                          "panel, upstream, seed and tokens; keep one of them, or tell runs apart by a column seed")

    def _charge(self, line: int, key: RunKey, charged: int | None) -> None:
        run = self.runs[key]
        if charged is not None and run.upstream_tokens not in (None, charged):
            self._problem(line, "upstream_tokens", charged, f"is {run.upstream_tokens} on another line of the same "
                                                            "run; a run has one number of upstream tokens")
        run.upstream_tokens = charged if charged is not None else run.upstream_tokens

    def made(self) -> CurveFile:
        if not self.seen:
            raise UsageError(f"{self.path}: has no rows; a row is {', '.join(REQUIRED)}")
        refuse(self.problems, self.path)
        return CurveFile(path=self.path, runs=self.runs, notes=tuple(self._notes()))

    def _notes(self) -> Iterator[str]:
        if self.others:
            yield f"columns that are not read: {', '.join(map(repr, self.others))}"
        if self.repeated:
            yield f"{len(self.repeated)} rows stand twice and count once, the first of them line {self.repeated[0]}"
        if self.empty:
            yield (f"{len(self.empty)} rows have no val_loss, the first of them line {self.empty[0]}: read as nan, "
                   "which pandas writes so; leave out rows that are no evaluation")
        for key, run in self.runs.items():
            if run.diverged:
                line = min(run.lines[t] for t, loss in run.points.items() if not math.isfinite(loss))
                yield (f"line {line}: val_loss is not finite, so {key.upstream!r} in {key.panel!r}, seed {key.seed}, "
                       "diverged: counted, never scored")


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _name(value: Any) -> str:
    return str(value).strip()


def _seed(value: Any) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not number.is_integer() or abs(number) > 2**53:
        raise ValueError("a seed is a whole number")
    return int(number)


def _tokens(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float(Amount(value).tokens())
    if not 0 <= number <= MAX_TOKENS:
        raise ValueError(f"tokens lie between 0 and {MAX_TOKENS:.0e}")
    return number


def _loss(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError("is no number; a loss is in nats per token, such as 2.685, or nan of a run that "
                         "diverged") from None


def _csv(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line, column -> text) of each row; empty lines are passed over."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            header = _header(path, [name.strip().lower() for name in next(reader, [])])
            for values in reader:
                if not any(v.strip() for v in values):
                    continue
                whole = len(values) == len(header)
                yield reader.line_num, dict(zip(header, values, strict=True)) if whole else len(values)
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: {error}; it is no CSV file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is no text in UTF-8 ({error.reason} at byte {error.start}); Parquet files end in "
                         f"{' or '.join(PARQUET)}") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name a file of curves") from error


def _header(path: Path, names: Sequence[str]) -> Sequence[str]:
    problems = [Problem(where=f"{path}:1", key=c, given="", message=f"this column is missing; {nearest(c, names)}")
                for c in REQUIRED if c not in names]
    problems += [Problem(where=f"{path}:1", key=c, given="", message="this column stands twice")
                 for c in dict.fromkeys(names) if names.count(c) > 1]
    if len(names) < 2:
        raise UsageError(f"{path}: its first line is no header; write {','.join(REQUIRED)}, separated by commas")
    refuse(problems, path)
    return names


def _parquet(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (row, column -> value) of each row; missing values are None."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise EnvironmentError_(f"{path}: Parquet needs pyarrow; pip install pyarrow, or write CSV") from error
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise UsageError(f"{path}: is no Parquet file that can be read ({str(error).splitlines()[0]})") from error
    names = _header(path, [str(name).strip().lower() for name in table.column_names])
    table = table.rename_columns(list(names))
    rows = (values for batch in table.to_batches() for values in batch.to_pylist())
    yield from enumerate(rows, start=1)
