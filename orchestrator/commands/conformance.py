"""Check NCA trajectories made elsewhere against this project's generator.

Exit 0 only if every file conforms; 1 if one does not, 2 if one cannot be read (the others are checked all the same).
With --json one file gives its result, several give `files`, each with its result or `error`, and `ok`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.arguments import add_json, out, out_json, say
from sweeps.errors import UsageError

EXAMPLES = """  orchestrator conformance tests/data/nca_golden.npz
  orchestrator conformance *.npz --json"""

NAME_WIDTH = 24
"""Columns of a file's name; of a longer one the end is shown, since folders differ less."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npz", help="kernels, frames, tokens and scores")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check each file and print a table."""
    rows = [_checked(path, alone=len(arguments.files) == 1) for path in arguments.files]
    if arguments.json:
        out_json(rows[0] if len(rows) == 1 else {"files": rows, "ok": all(row["ok"] for row in rows)})
    else:
        out("\n".join([f"{'file':<{NAME_WIDTH}}{'rules':>6}{'frames equal':>14}  tokens  scores  logit error   ok",
                       *map(_line, rows)]))
    for row in rows:
        if "error" in row:
            say(f"orchestrator conformance: {row['error']}")
    if any("error" in row for row in rows):
        return UsageError.exit_code
    return 0 if all(row["ok"] for row in rows) else 1


def _checked(path: Path, *, alone: bool) -> dict[str, Any]:
    """Return the result of one file; one among several that cannot be read does not keep the others from it.

    Raises:
        UsageError: the only file cannot be read.
    """
    from workloads.upstreams.nca.conformance import conformance

    try:
        return {"file": str(path), **asdict(conformance(path))}
    except UsageError as error:
        if alone:
            raise
        text = str(error)
        return {"file": str(path), "ok": False, "error": text if str(path) in text else f"{path}: {text}"}


def _line(row: Mapping[str, Any]) -> str:
    name = row["file"] if len(row["file"]) < NAME_WIDTH else "..." + row["file"][4 - NAME_WIDTH:]
    if "error" in row:
        return f"{name:<{NAME_WIDTH}}cannot be read"
    frames = f"{row['frames_identical']} of {row['frames_checked']}"
    tokens, scores, ok = ("yes" if row[key] else "NO" for key in ("tokens_identical", "scores_identical", "ok"))
    return (f"{name:<{NAME_WIDTH}}{row['rules']:>6}{frames:>14}  {tokens:>6}  {scores:>6}  "
            f"{row['max_logit_error']:>11.1e}  {ok:>3}")
