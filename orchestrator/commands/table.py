"""Print one table of a sweep or of loss curves: for a terminal, or as CSV, Markdown, LaTeX or Parquet.

Without FILE: what its columns mean.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.arguments import (
    CURVES,
    add_curves,
    add_json,
    add_mixed,
    add_roots,
    curves_given,
    layouts,
    out,
    out_json,
    say,
    sweep_name,
)
from sweeps.errors import UsageError, nearest

if TYPE_CHECKING:
    from analysis.study import Study

EXAMPLES = """  orchestrator table convergence
  orchestrator table convergence complexity_by_domain
  orchestrator table missing complexity_by_domain --root here/store --root there/store
  orchestrator table inference sweeps/complexity_by_domain.yaml --format latex > inference.tex
  orchestrator table convergence curves.csv --baseline scratch --upstream-tokens 164M"""
FORMATS = ("text", "csv", "markdown", "latex", "parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("name", metavar="NAME", help="the table: a file in the report's folder tables/")
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="sweep file (.yaml), or a sweep's name; "
                        "or loss curves (.csv, .parquet)")
    parser.add_argument("--format", choices=FORMATS, default="text", help="text (80 columns, the default), csv, "
                        "markdown, latex (booktabs), or parquet (to a file: `> FILE`)")
    add_curves(parser)
    add_mixed(parser)
    add_roots(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the table, or what its columns mean."""
    from analysis.table import to_csv, to_latex, to_markdown, to_parquet, to_rows, to_text
    from analysis.tables import registry
    from analysis.wording import SIMULATED

    known = registry()
    if arguments.name not in known:
        raise UsageError(f"{arguments.name}: no such table; {nearest(arguments.name, known)}")
    table = known[arguments.name]
    if arguments.json:
        study = _study(arguments) if arguments.file else None
        out_json({"table": arguments.name, "title": table.title, "columns": [asdict(c) for c in table.columns],
                  "simulated": study is not None and study.records.simulated,
                  "rows": None if study is None else to_rows(table.build(study))})
        return 0
    if arguments.file is None:
        out("\n".join([table.title, "", *(
            f"  {c.name}{f' ({c.unit})' if c.unit else ''}: {c.meaning}" for c in table.columns)]))
        return 0
    study = _study(arguments)
    frame, made_up = table.build(study), study.records.simulated
    if made_up and arguments.format in ("csv", "parquet"):
        say(SIMULATED)  # the format has no place for it
    if arguments.format == "parquet":
        if sys.stdout.isatty():
            raise UsageError("Parquet is not for a terminal; write it to a file: > FILE")
        sys.stdout.buffer.write(to_parquet(table, frame))
        return 0
    out({"text": lambda: to_text(table, frame, simulated=made_up), "csv": lambda: to_csv(frame),
         "latex": lambda: to_latex(table, frame, simulated=made_up),
         "markdown": lambda: to_markdown(arguments.name, table, frame, simulated=made_up)}[arguments.format]())
    return 0


def _study(arguments: argparse.Namespace) -> Study:
    from analysis.stores import read_plan
    from analysis.study import study

    if arguments.file.suffix.lower() in CURVES:
        return curves_given(arguments, arguments.file)
    if arguments.baseline is not None or arguments.upstream_tokens is not None:
        raise UsageError("--baseline and --upstream-tokens belong to curves; a sweep's file says both")
    stores = layouts(arguments)
    roots, name = [s.root for s in stores], sweep_name(stores, arguments.file)
    return study(roots, name, read_plan(roots, name, mixed=arguments.mixed_protocols))
