"""How long the reading verbs take on a large store: 10,000 stages of some 1,000 trials, by default.

    python -m benchmarks.store [--json] [--stages 10000] [--runs 7]

Writes a made-up store without fsync into a temporary folder (once), most of it complete, some of it failed and
waiting; then measures fresh processes. The alternative in the same run is a bare interpreter that reads the same
result.json files and nothing else, the least that `status` could do. Medians and the longest, seconds.

    stages                               in the store
    bare_read_s, bare_read_max_s         the alternative
    status_s, status_max_s               `status`
    status_ratio                         of its median to the alternative's
    status_json_s, status_json_max_s     `status --json`
    why_trial_s, why_trial_max_s         `why` of a trial that is complete
    why_failed_s, why_failed_max_s       `why` of a stage that failed
    cancel_nothing_s, cancel_nothing_max_s  `cancel` of that trial
    gc_s, gc_max_s                       `gc`
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import show
from sweeps.store.files import encode_line, seal, to_json
from sweeps.store.layout import Layout
from sweeps.store.owner import Owner

SMALLEST = ("--stages", "500", "--runs", "1")
KINDS = ("rules", "prepretrain", "prepretrain", "pretrain", "pretrain", "pretrain", "pretrain", "pretrain", "evaluate")
"""Stages that a trial has for itself; text, tokenizer and corpora are shared by all."""
TICKET = 4
"""Stages of a job."""
BARE = ("import json, pathlib, sys\n"
        "for p in pathlib.Path(sys.argv[1]).glob('stages/*/*/result.json'): json.loads(p.read_bytes())['status']")


def make_store(root: Path, stages: int) -> tuple[str, str]:
    """Write the store; return a trial that is complete and the fingerprint of a failed stage."""
    layout, trials, planned = Layout(root), [], []
    failed, events = "", [{"event": "start", "term": 1, "owner": Owner.me().fields(), "older": {}}]
    for trial in range(stages // len(KINDS)):
        path, before = [], ""
        for position, kind in enumerate(KINDS):
            key = f"{trial * len(KINDS) + position:032x}"
            state = "failed" if trial % 100 == 50 and position >= 7 else "done"
            if state == "failed" and position == 7:
                failed = key
            _stage(layout, kind, key, before, state if position == 7 or state == "done" else "waiting")
            path.append({"role": kind, "kind": kind, "fingerprint": key, "tokens": 1000})
            planned.append({"kind": kind, "fingerprint": key, "label": f"{kind} nca s{trial} {position}", "trials": 1,
                            "tokens": 1000, "flops": 1e9, "storage_bytes": 0})
            before = key
        trials.append({"id": f"nca_45-60-web-s{trial}", "path": path})
    keys = [s["fingerprint"] for s in planned]
    for number, start in enumerate(range(0, len(keys), TICKET)):
        name, ticket = f"large-t1-{number:04d}", keys[start:start + TICKET]
        events += [{"event": "intent", "name": name, "tickets": [ticket]},
                   {"event": "submitted", "name": name, "handles": [{"submission": name, "index": 0, "job_id": "1"}]},
                   {"event": "done", "fingerprints": ticket},
                   {"event": "ended", "name": name, "index": 0, "detail": "exit 0"}]
    events += [{"event": "failed", "fingerprint": failed, "detail": "exit 1", "reason": "ValueError"},
               {"event": "release"}]
    folder = layout.sweep("large")
    folder.ledger.mkdir(parents=True)
    text = "".join(encode_line(n, e) for n, e in enumerate(events))
    (folder.ledger / "1.jsonl").write_text(text, encoding="utf-8")
    folder.plan.write_text(to_json({"schema_version": 1, "name": "large", "question": "How long?", "trials": trials,
                                    "stages": planned}), encoding="utf-8")
    return str(trials[0]["id"]), failed


def _stage(layout: Layout, kind: str, key: str, before: str, state: str) -> None:
    stage = layout.stage(kind, key)
    attempt = stage.attempt(1)
    attempt.path.mkdir(parents=True)
    values = {"lr": 0.004, "end_tokens": int(key, 16), "decay_from": None, "batch_sequences": 4}
    section = {"plugin": "", "values": values, "changed": values}
    inputs = [{"role": "input", "kind": kind, "fingerprint": before}] if before else []
    submission = "large-t1-0000"
    files: dict[Path, dict[str, Any]] = {
        stage.spec: {"kind": kind, "fingerprint": key, "revisions": {f"stage:{kind}": 1},
                     "sections": {"segment": section}, "inputs": inputs},
        attempt.execution: {"sweep": "large", "submission": submission, "started": "2026-01-01T00:00:00+00:00"}}
    if state == "failed":
        files[attempt.failure] = {"class": "ValueError", "message": "made up", "traceback": ["ValueError: made up"]}
    for path, value in files.items():
        path.write_text(to_json({"schema_version": 1, **value}), encoding="utf-8")
    row = encode_line(0, {"tokens": 1000, "kind": "train", "values": {"loss": 1.0}})
    attempt.metrics.write_text(row, encoding="utf-8")
    (stage.claims).mkdir()
    claim = {"schema_version": 1, "sweep": "large", "term": 1, "submission": submission}
    (stage.claims / "1.json").write_text(to_json(claim), encoding="utf-8")
    if state == "done":
        scores = {"loss": 4.37, "updates": 204.0, "tokens": 208896.0, "tokens_per_second": 19295.05}
        stage.result.write_text(seal({
            "schema_version": 1, "attempt": 1, "scores": scores, "files": {}, "status": "done", "seconds": 1.6,
            "checkpoint": {}, "spec_sha256": ""}), encoding="utf-8")


def seconds(argv: list[str], runs: int) -> tuple[float, float]:
    """Return the median wall seconds of fresh processes, and the longest."""
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run([sys.executable, *argv], check=True, capture_output=True)
        found.append(time.perf_counter() - began)
    return statistics.median(found), max(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--stages", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = ["--root", folder]
        trial, failed = make_store(Path(folder), arguments.stages)
        verb = ["-m", "orchestrator"]
        figures: dict[str, Any] = {"stages": arguments.stages}
        for name, argv in {
            "bare_read": ["-c", BARE, folder], "status": [*verb, "status", *root],
            "status_json": [*verb, "status", "--json", *root], "why_trial": [*verb, "why", trial, *root],
            "why_failed": [*verb, "why", failed, *root], "cancel_nothing": [*verb, "cancel", trial, *root],
            "gc": [*verb, "gc", *root],
        }.items():
            figures[f"{name}_s"], figures[f"{name}_max_s"] = seconds(argv, arguments.runs)
        figures["status_ratio"] = figures["status_s"] / figures["bare_read_s"]
    show(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
