"""What a table plug-in states, and how tables become bytes: CSV for machines, Markdown for people.

The same records give the same bytes: fixed column order, six significant digits, `\\n` line ends, rows in plan order,
and no time, host, path or attempt in any table but `cost`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.schema import Columns
from analysis.study import Study
from sweeps.store import files

DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: one file in `analysis/tables/` that exports it as PLUGIN."""

    title: str
    columns: Columns
    build: Callable[[Study], pd.DataFrame]
    """Returns a frame with exactly `columns`."""
    empty: str = "Nothing to show yet."
    """What to say where it has no rows."""


def cell(value: Any) -> str:
    """Return one value as text: six significant digits, true/false, empty for a missing number."""
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.{DIGITS}g}"
    return str(value)


def to_csv(frame: pd.DataFrame) -> str:
    """Return a frame as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows([cell(v) for v in row] for row in frame.itertuples(index=False, name=None))
    return out.getvalue()


def to_markdown(name: str, table: Table, frame: pd.DataFrame) -> str:
    """Return a frame as Markdown: title, table, and what each column means."""
    head = [f"# {table.title}", ""]
    if frame.empty:
        return "\n".join([*head, table.empty, ""])
    lines = ["| " + " | ".join(map(str, frame.columns)) + " |", "|" + "---|" * len(frame.columns)]
    for row in frame.itertuples(index=False, name=None):
        lines.append("| " + " | ".join(_escaped(cell(v)) for v in row) + " |")
    legend = [f"- `{c.name}`{f' ({c.unit})' if c.unit else ''}: {c.meaning}" for c in table.columns]
    return "\n".join([*head, *lines, "", f"Columns of `{name}.csv`:", "", *legend, ""])


def _escaped(text: str) -> str:
    flat = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|" else c for c in flat)


def write(tables: dict[str, Table], study: Study, out: Path) -> list[Path]:
    """Write every table as `<out>/<name>.csv` and `.md`; return the paths."""
    written = []
    for name, table in sorted(tables.items()):
        frame = table.build(study)
        for suffix, text in ((".csv", to_csv(frame)), (".md", to_markdown(name, table, frame))):
            files.replace(out / f"{name}{suffix}", text)
            written.append(out / f"{name}{suffix}")
    return written
