"""What a table plug-in states, and how tables become bytes: CSV for machines, Markdown, LaTeX and text for people.

The same records give the same bytes: fixed column order, six significant digits, `\\n` line ends, rows in plan order,
and no time, host, path or attempt in any table but `cost`.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.schema import Columns, plain_values
from analysis.study import Study, once
from analysis.wording import SIMULATED, plain
from sweeps.errors import EnvironmentError_
from sweeps.store import files

DIGITS = 6
_FLOAT = f"{{:.{DIGITS}g}}".format
_NUMBERS = ("int64", "float64", "bool")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: one file in `analysis/tables/` that exports it as PLUGIN."""

    title: str
    columns: Columns
    build: Callable[[Study], pd.DataFrame]
    """Returns a frame with exactly `columns`."""
    empty: str = "Nothing to show yet."
    """What to say where it has no rows."""
    best: Callable[[pd.DataFrame], Iterable[tuple[int, str]]] = lambda frame: ()
    """Returns (row, column) of values that are the best by a resolved difference: Markdown and LaTeX set them bold."""


def cell(value: Any) -> str:
    """Return one value as text: six significant digits, true/false, empty for a missing number."""
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if math.isnan(value) else _FLOAT(value)
    return str(value)


Texts = Sequence[Sequence[str]]
"""Each column of a frame as `cell` says."""


def to_csv(frame: pd.DataFrame, texts: Texts | None = None) -> str:
    """Return a frame as CSV; `texts`: of its values, where they are known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows(zip(*(_texts(frame) if texts is None else texts), strict=True))
    return out.getvalue()


def _texts(frame: pd.DataFrame) -> list[list[str]]:
    """Return each column's values as text, as `cell` says: by columns, since frames are slow by rows."""
    return [_column(frame[name]) for name in frame.columns]


def _column(column: pd.Series) -> list[str]:
    values = plain_values(column)
    if column.dtype.kind != "f":
        return [v if type(v) is str else cell(v) for v in values]
    return [_FLOAT(v) if v == v else "" for v in values]


def to_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows for JSON; None where there is no value."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return rows


def to_markdown(name: str, table: Table, frame: pd.DataFrame, texts: Texts | None = None, *, simulated: bool = False
                ) -> str:
    """Return a frame as Markdown: title, whether its numbers are made up, table, and what each column means.

    `texts`: as in `to_csv`.
    """
    head = [f"# {table.title}", "", *[f"**{SIMULATED}**", ""] * simulated]
    if frame.empty:
        return "\n".join([*head, table.empty, ""])
    lines = ["| " + " | ".join(map(str, frame.columns)) + " |", "|" + "---|" * len(frame.columns)]
    lines += [f"| {' | '.join(row)} |" for row in _marked(
        table, frame, _escaped, "**{}**", _texts(frame) if texts is None else texts)]
    legend = [f"- `{c.name}`{f' ({c.unit})' if c.unit else ''}: {c.meaning}" for c in table.columns]
    return "\n".join([*head, *lines, "", f"Columns of `{name}.csv`:", "", *legend, ""])


def to_latex(table: Table, frame: pd.DataFrame, *, simulated: bool = False) -> str:
    """Return a frame as a LaTeX table with booktabs' rules (`\\usepackage{booktabs}`); every name is escaped.

    `simulated`: its first line says that the numbers are made up, so that a compiled table does too.
    """
    kinds = "".join("r" if c.dtype in ("int64", "float64") else "l" for c in table.columns)
    lines = [rf"\multicolumn{{{len(frame.columns)}}}{{l}}{{\textbf{{{SIMULATED}}}}} \\", r"\midrule"] * simulated
    lines += [" & ".join(_latex(str(c)) for c in frame.columns) + r" \\", r"\midrule"]
    lines += [" & ".join(row) + r" \\" for row in _marked(
        table, frame, _latex, r"\textbf{{{}}}", _texts(frame))]
    return "\n".join([r"\begin{tabular}{" + kinds + "}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}", ""])


def _marked(
    table: Table, frame: pd.DataFrame, escape: Callable[[str], str], bold: str, texts: Texts
) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each row as text, the best ones bold; numbers hold nothing to escape."""
    numbers = {c.name for c in table.columns if c.dtype in _NUMBERS}
    columns = {name: list(column) if name in numbers else _escaped_once(column, escape)
               for name, column in zip(frame.columns, texts, strict=True)}
    for i, name in table.best(frame):
        columns[name][i] = bold.format(columns[name][i])
    yield from zip(*columns.values(), strict=True)


def _escaped_once(texts: Sequence[str], escape: Callable[[str], str]) -> list[str]:
    known = {text: escape(text) for text in set(texts)}  # most columns of names repeat a few
    return [known[text] for text in texts]


def to_parquet(table: Table, frame: pd.DataFrame) -> bytes:
    """Return a frame as Parquet; every digit is kept, and each column's unit and meaning are its field's metadata.

    Raises:
        EnvironmentError_: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise EnvironmentError_("Parquet needs pyarrow; pip install pyarrow, or take CSV") from error
    made = pa.Table.from_pandas(frame, preserve_index=False)
    about = {c.name: {"unit": c.unit, "meaning": c.meaning} for c in table.columns}
    fields = [field.with_metadata(about[field.name]) for field in made.schema]
    out = io.BytesIO()
    parquet.write_table(made.cast(pa.schema(fields)), out, compression="zstd")
    return out.getvalue()


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
          "[": "{[}", "*": "{*}",  # at the start of a row they would be arguments of the rule or row end before it
          **{c: "\\" + c for c in "&%$#_{}"}}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in "".join(map(_drawable, plain(text))))


def _drawable(c: str) -> str:
    """Return a character that pdflatex has without further packages, or its number: \\u4e2d."""
    return c if c.isascii() or "\u00c0" <= c <= "\u00ff" else c.encode("ascii", "backslashreplace").decode()


def to_text(table: Table, frame: pd.DataFrame, width: int = 80, *, simulated: bool = False) -> str:
    """Return a frame for a terminal; above it, whether its numbers are made up.

    Columns that say the same of all rows stand above, once. The others stand in blocks that fit the width, and each
    block begins with the names that tell the rows apart.
    """
    head = [textwrap.fill(SIMULATED, width)] * simulated
    if frame.empty:
        return "\n\n".join([*head, textwrap.fill(table.empty, width)]) + "\n"
    texts = {name: [plain(text) or "-" for text in column]
             for name, column in zip(map(str, frame.columns), _texts(frame), strict=True)}
    same = {name: column[0] for name, column in texts.items() if len(frame) > 1 and len(set(column)) == 1}
    varied = {name: column for name, column in texts.items() if name not in same}
    names = _names(table, varied)
    heads = [_fitted([name, *varied.pop(name)], width * 3 // 10) for name in names]
    blocks: list[list[list[str]]] = []
    room = 0
    for column in (_fitted([name, *values], width // 2) for name, values in varied.items()):
        needed = len(column[0]) + 2
        if needed > room or not blocks:
            blocks.append(list(heads))
            room = width - sum(len(c[0]) + 2 for c in heads) + 2
        blocks[-1].append(column)
        room -= needed
    above = {"All rows": [f"{name} {value}" for name, value in same.items() if value != "-"],
             "Without a value": [name for name, value in same.items() if value == "-"]}
    said = [textwrap.fill(f"{what}: {'; '.join(them)}.", width) for what, them in above.items() if them]
    drawn = ("\n".join("  ".join(parts).rstrip() for parts in zip(*block, strict=True)) for block in blocks)
    return "\n\n".join([*head, *said, *drawn]) + "\n"


def _names(table: Table, texts: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the fewest leading columns of words that tell the rows apart; all of them where none do."""
    words = {c.name for c in table.columns if c.dtype == "str"}
    leading = list(itertools.takewhile(words.__contains__, texts))
    for count in range(1, len(leading)):
        rows = list(zip(*(texts[name] for name in leading[:count]), strict=True))
        if len(set(rows)) == len(rows):
            return leading[:count]
    return leading


def _fitted(values: list[str], most: int) -> list[str]:
    """Return values padded to one width; long ones are cut."""
    kept = [v if len(v) <= most else v[: most - 2] + ".." for v in values]
    widest = max(map(len, kept))
    return [f"{v:<{widest}}" for v in kept]


_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>|"})


def _escaped(text: str) -> str:
    return plain(text).translate(_MARKDOWN)


def write(tables: dict[str, Table], study: Study, out: Path) -> list[Path]:
    """Write every table as `<out>/<name>.csv` and `.md`, and where numbers are made up a file that says so.

    Return the paths.
    """
    simulated, written = study.records.simulated, []
    if simulated:
        files.renew(out / "SIMULATED", SIMULATED + "\n")  # CSV has no place for it
        written.append(out / "SIMULATED")
    for name, table in sorted(tables.items()):
        frame = once(table.build)(study)
        texts = _texts(frame)
        made = (".csv", to_csv(frame, texts)), (".md", to_markdown(name, table, frame, texts, simulated=simulated))
        for suffix, text in made:
            files.renew(out / f"{name}{suffix}", text)
            written.append(out / f"{name}{suffix}")
    return written
