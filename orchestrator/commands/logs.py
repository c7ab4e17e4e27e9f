"""Print the logs of a stage, or of the stages of a trial."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.arguments import add_root, layout, out, say, sweep_names
from sweeps.errors import UsageError, nearest
from sweeps.store.files import read_json
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.ledger import fold, read_events

EXAMPLES = """  orchestrator logs 3fa94c1b
  orchestrator logs scratch-web-s0 -f"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("target", metavar="STAGE|TRIAL", help="a fingerprint (its beginning is enough) or a trial's id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on printing as the logs grow")
    add_root(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the logs."""
    store = layout(arguments)
    found = list(dict.fromkeys(log for stage in stages(store, arguments.target) for log in logs(store, stage)))
    if not found:
        say("no log yet: no attempt of it has begun")
    seen = dict.fromkeys(found, 0)
    while True:
        for path in found:
            with path.open(encoding="utf-8", errors="replace") as handle:
                handle.seek(seen[path])
                text = handle.read()
                seen[path] = handle.tell()
            if text:
                out(f"==> {path}\n{text}")
        if not arguments.follow:
            return 0
        time.sleep(0.5)


def stages(store: Layout, target: str) -> list[StageFolder]:
    """Return the stages that a fingerprint's beginning or a trial's id names.

    Raises:
        UsageError: there is none.
    """
    direct = [StageFolder(p) for p in sorted(store.stages.glob(f"*/{target}*"))] if len(target) >= 4 else []
    if direct:
        return direct
    trials: dict[str, Any] = {}
    for name in sweep_names(store):
        path = store.sweep(name).plan
        trials |= {t["id"]: t for t in read_json(path)["trials"]} if path.exists() else {}
    if target not in trials:
        raise UsageError(f"{target!r} is neither the beginning of a fingerprint nor a trial; trials: "
                         f"{nearest(target, list(trials)[:40])}")
    return [store.stage(s["kind"], s["fingerprint"]) for s in trials[target]["path"]]


def logs(store: Layout, stage: StageFolder) -> Iterator[Path]:
    """Yield the log files of the jobs that tried a stage, oldest first; one log holds all stages of its ticket."""
    for execution in sorted(stage.attempts.glob("*/execution.json"), key=lambda p: int(p.parent.name)):
        raw = read_json(execution)
        sweep = store.sweep(raw.get("sweep", ""))
        submission = fold(read_events(sweep)).submissions.get(raw.get("submission", ""))
        tickets = enumerate(submission.tickets) if submission else ()
        for index in (i for i, stages in tickets if stage.fingerprint in stages):
            files = [sweep.submissions / raw["submission"] / f"{index}.{end}" for end in ("out", "err")]
            yield from (f for f in files if f.is_file() and f.stat().st_size)
