"""Check NCA trajectories made elsewhere against this project's generator."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from orchestrator.arguments import add_json, out, out_json

EXAMPLES = """  orchestrator conformance tests/data/nca_golden.npz
  orchestrator conformance *.npz --json"""

COLUMNS = ("rules", "frames_checked", "frames_identical", "tokens_identical", "scores_identical", "max_logit_error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npz", help="kernels, frames, tokens and scores")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check each file; exit 0 only if all conform."""
    from workloads.upstreams.nca.conformance import conformance

    found = [(path, conformance(path)) for path in arguments.files]
    if arguments.json:
        rows = [{"file": str(path), **asdict(result)} for path, result in found]
        out_json(rows[0] if len(rows) == 1 else {"files": rows, "ok": all(r.ok for _, r in found)})
    else:
        out(f"{'file':<28}" + "".join(f"{c.replace('_identical', ' ='):>17}" for c in COLUMNS[:2])
            + "  frames=  tokens=  scores=  logit error  ok")
        for path, r in found:
            out(f"{path.name[:28]:<28}{r.rules:>17}{r.frames_checked:>17}  {r.frames_identical:>7}  "
                f"{r.tokens_identical!s:>7}  {r.scores_identical!s:>7}  {r.max_logit_error:>11.2e}  "
                f"{'yes' if r.ok else 'NO'}")
    return 0 if all(r.ok for _, r in found) else 1
