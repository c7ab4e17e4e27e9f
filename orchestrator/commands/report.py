"""Write tables, figures and report.html of a sweep from its records; of a search, what it chose."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.arguments import add_json, add_root, add_sweep, layout, out, out_json, overrides, sweep_name
from sweeps.errors import UsageError

EXAMPLES = """  orchestrator report sweeps/complexity_by_domain.yaml
  orchestrator report complexity_by_domain --root /copied/store --out results/
  orchestrator report sweeps/complexity_by_domain.yaml --set domain=[web] --out web/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_sweep(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: inside the store)")
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the report and print the table."""
    from orchestrator.plan import make_plan
    from orchestrator.reporting import write_report

    store = layout(arguments)
    name = sweep_name(store, arguments.file)
    plan = None
    if any((arguments.sets, arguments.scale, arguments.seeds)):
        if not arguments.file.is_file():
            raise UsageError(f"--set, --scale and --seeds need the sweep's file; {arguments.file} is a name")
        plan = make_plan(arguments.file, overrides(arguments), store.root).file
        if arguments.out is None:
            raise UsageError("a report of a part would replace that of the whole: give it a folder with --out DIR")
    page, text = write_report(store, name, arguments.out, plan)
    if arguments.json:
        out_json({"name": name, "report": str(page), "tables": sorted(
            str(p) for p in (page.parent / "tables").glob("*"))})
    else:
        out(text)
        out(f"\nreport: {page}")
    return 0
