"""Write tables, figures and report.html of a sweep from its records."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.arguments import add_json, add_root, layout, out, out_json, sweep_name

EXAMPLES = """  orchestrator report sweeps/complexity_by_domain.yaml
  orchestrator report complexity_by_domain --root /copied/store --out results/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("sweep", type=Path, metavar="FILE|NAME", help="sweep file, or its name in the store")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: inside the store)")
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the report and print the table."""
    from orchestrator.reporting import write_report

    store = layout(arguments)
    name = sweep_name(store, arguments.sweep)
    page, text = write_report(store, name, arguments.out)
    if arguments.json:
        out_json({"name": name, "report": str(page), "tables": sorted(
            str(p) for p in (page.parent / "tables").iterdir())})
    else:
        out(text)
        out(f"\nreport: {page}")
    return 0
