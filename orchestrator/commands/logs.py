"""Print the logs of a stage, or of the stages of a trial.

A stage is named by its label or the beginning of its fingerprint (at least 4 digits), a trial by its id. With -f the
verb goes on printing as the logs grow, until Ctrl-C, which is its ordinary end (exit code 0).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from orchestrator.arguments import add_json, add_root, layout, out, out_json, say, sweep_name, sweep_names
from sweeps.errors import UsageError

EXAMPLES = """  orchestrator logs 3fa94c1b
  orchestrator logs scratch-web-s0 -f
  orchestrator logs scratch-web-s0 --sweep smoke --json"""

INTERVAL_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("target", metavar="STAGE|TRIAL", help="a fingerprint's beginning, a label, or a trial's id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on printing as the logs grow, until Ctrl-C")
    parser.add_argument("--sweep", type=Path, metavar="FILE|NAME", help="look in this sweep only")
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the logs."""
    if arguments.json and arguments.follow:
        raise UsageError("--json prints one document and --follow never ends: leave one of them out")
    if arguments.json:
        found = _find(arguments)
        texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in found}
        out_json({"target": arguments.target, "logs": [{"path": str(p), "text": t} for p, t in texts.items()]})
        return 0
    try:
        _show(arguments)
    except KeyboardInterrupt:
        if not arguments.follow:
            raise
    return 0


def _show(arguments: argparse.Namespace) -> None:
    """Print each log, and with --follow what is added to it, until interrupted."""
    found, seen = _find(arguments), dict[Path, int]()
    if not found:
        say("no log yet: no job that ran it has written one")
    while True:
        for path in found:
            seen[path] = _print(path, seen.get(path, 0))
        if not arguments.follow:
            return
        time.sleep(INTERVAL_SECONDS)
        found = _find(arguments)


def _find(arguments: argparse.Namespace) -> list[Path]:
    from orchestrator.targets import find, logs, read_plan

    store = layout(arguments)
    names = [sweep_name(store, arguments.sweep)] if arguments.sweep else sweep_names(store)
    target = find(store, [read_plan(store, name) for name in names], arguments.target)
    return list(dict.fromkeys(log for stage in target.stages for log in logs(store, stage)))


def _print(path: Path, start: int) -> int:
    """Print what a log has from byte `start` on; return where it ends."""
    with path.open("rb") as handle:
        handle.seek(start)
        text = handle.read()
    if text:
        out(f"==> {path}\n{text.decode(errors='replace')}")
    return start + len(text)
