"""Check a bundle that `orchestrator export` wrote: every checksum, and every table made anew from its records.

Exit code 0: all is as the records say; 1: something is not, or the file is damaged. Nothing outside a temporary folder
is read or written, whatever the file holds. That numbers follow from records is checked; who made the records is not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.arguments import add_json, out, out_json

EXAMPLES = """  orchestrator verify bundle.tar.zst
  orchestrator verify bundle.tar.zst --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a file of `orchestrator export`")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check the bundle."""
    from analysis.bundle import environment, verify
    from analysis.wording import SIMULATED
    from sweeps.store.layout import Layout

    manifest, wrong = verify(arguments.bundle)
    listed = manifest["files"]
    made, own = manifest["environment"]["exported"], environment()
    other = {k: f"{made.get(k)} there, {v} here" for k, v in own.items() if made.get(k) != v}
    simulated = f"store/{Layout(Path()).simulated}" in listed
    tables = sum(name.startswith("tables/") for name in listed)
    if arguments.json:
        out_json({"name": manifest["sweep"], "verified": not wrong, "simulated": simulated, "differences": wrong,
                  "files": len(listed), "tables": tables, "other_versions": other})
        return int(bool(wrong))
    lines = [f"{arguments.bundle}: sweep {manifest['sweep']}, {len(listed):,} files and {tables} tables"]
    lines += [f"  differs: {text}" for text in wrong]
    if wrong and other:
        lines += ["  made with other versions: " + "; ".join(f"{k} {v}" for k, v in other.items())]
    lines.append("NOT verified" if wrong else "verified: every checksum holds, every table follows from the records")
    out("\n".join([*lines, *[SIMULATED] * simulated]))
    return int(bool(wrong))
