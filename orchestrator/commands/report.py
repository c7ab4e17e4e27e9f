"""Write tables, figures and report.html of a sweep from its records; of a search, what it chose; or of loss curves.

Curves are a CSV or Parquet file with the columns panel, upstream, tokens (PT tokens), val_loss (nats per token), and
optionally seed and upstream_tokens, from this tool or any other (docs/statistics.md).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from orchestrator.arguments import (
    add_curves,
    add_json,
    add_mixed,
    add_overrides,
    add_roots,
    curves_given,
    layouts,
    out,
    out_json,
    overrides,
    say,
    sweep_name,
)
from sweeps.errors import UsageError

EXAMPLES = """  orchestrator report sweeps/complexity_by_domain.yaml
  orchestrator report complexity_by_domain --root /copied/store --out results/
  orchestrator report sweeps/complexity_by_domain.yaml --set domain=[web] --out web/
  orchestrator report complexity_by_domain --root here/store --root there/store --out both/
  orchestrator report --curves curves.csv --baseline scratch --upstream-tokens 164M --out results/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="sweep file (.yaml), or a sweep's name")
    add_overrides(parser)
    parser.add_argument("--curves", type=Path, metavar="FILE.csv", help="loss curves instead of a sweep; CSV or "
                        "Parquet")
    add_curves(parser)
    parser.add_argument("--overlay", choices=("published",), help="lay these results under the figures of losses and "
                        "gains")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: inside the store; of curves: "
                        "nowhere, the table is only printed)")
    add_mixed(parser)
    add_roots(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the report and print the table."""
    if (arguments.file is None) == (arguments.curves is None):
        raise UsageError("name a sweep (FILE) or loss curves (--curves FILE.csv), one of the two")
    return _of_curves(arguments) if arguments.curves is not None else _of_sweep(arguments)


def _of_sweep(arguments: argparse.Namespace) -> int:
    from analysis.stores import read_plan
    from orchestrator.plan import make_plan
    from orchestrator.reporting import write_report

    if arguments.baseline is not None or arguments.upstream_tokens is not None:
        raise UsageError("--baseline and --upstream-tokens belong to --curves; a sweep's file says both")
    stores = layouts(arguments)
    name, plan = sweep_name(stores, arguments.file), None
    if arguments.out is None and len(stores) > 1:
        raise UsageError("a report of several stores belongs to none of them: give it a folder with --out DIR")
    if any((arguments.sets, arguments.scale, arguments.seeds)):
        if not arguments.file.is_file():
            raise UsageError(f"--set, --scale and --seeds need the sweep's file; {arguments.file} is a name")
        plan = make_plan(arguments.file, overrides(arguments), stores[0].root).file
        if arguments.out is None:
            raise UsageError("a report of a part would replace that of the whole: give it a folder with --out DIR")
    elif len(stores) > 1:
        plan = read_plan([s.root for s in stores], name, mixed=arguments.mixed_protocols)
    stores = sorted(stores, key=lambda s: not s.sweep(name).plan.is_file())
    page, text = write_report(stores, name, arguments.out, plan, overlay=arguments.overlay is not None, drawn=True)
    if arguments.json:
        out_json({"name": name, "report": str(page), "tables": sorted(
            str(p) for p in (page.parent / "tables").glob("*"))})
    else:
        out(text)
        out(f"\nreport: {page}")
    return 0


def _of_curves(arguments: argparse.Namespace) -> int:
    from analysis.curve_text import curve_text
    from analysis.curves import ROWS_VERSION, left_out, rows
    from analysis.report import curves_report

    if any((arguments.sets, arguments.scale, arguments.seeds, arguments.cluster)):
        raise UsageError("--set, --scale, --seeds and --cluster belong to a sweep; curves are compared as they are")
    found = replace(curves_given(arguments, arguments.curves), overlay=arguments.overlay is not None)
    page = curves_report(found, arguments.out) if arguments.out is not None else None
    if arguments.json:
        out_json({"schema_version": ROWS_VERSION, "rows": rows(found), "left_out": left_out(found)})
    else:
        out(curve_text(found))
    if page is not None:
        say(f"report: {page}")
    else:
        drawn = "--overlay is drawn in figures only; " if arguments.overlay is not None else ""
        say(f"{drawn}for the tables, figures and report.html name a folder with --out DIR")
    return 0
