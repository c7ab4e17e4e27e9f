"""Crash-point enumeration: kill a run at its first call, at its second, ... at its last; after each, run it to its end.

One process imports everything once and forks a child per run, so a point costs what the run costs. The checks of every
point are the same: the second run succeeds, what had a result keeps it, no stage has more than one attempt beyond an
interrupted one, and the facts (tables, weights) have the bytes of an undisturbed run's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweeps.store.files import to_json
from sweeps.store.layout import Layout
from sweeps.store.records import read_result, stage_rows
from tests.faults.crash import CHANGES, DURABLE, Crash, in_child

ROOT = Path(__file__).parent.parent.parent
KILLED = -9
PARTS = 2
"""Processes that share the points of one enumeration."""
SORTS = {
    "before, no report": Crash(calls=DURABLE, when="before", path=r"^(?!.*/report/)"),
    "before": Crash(calls=DURABLE, when="before"),
    "after": Crash(calls=DURABLE, when="after"),
    "changes": Crash(calls=CHANGES, when="before"),
    "being written": Crash(calls=("write",), when="half", path=r"/checkpoints/.*\.pt$"),
    "torn": Crash(calls=("write",), when="half", path=r"/ledger/\d+\.jsonl$"),
}
"""Enumerations: every durable call (before, after), every change of a folder, every piece
of a checkpoint and every line of a ledger torn in half."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is run, killed and run again."""

    prepare: Callable[[Path], None]
    """Before each run: make the root where there is none, and what the run needs."""
    run: Callable[[Path], int]
    """In a child: run to the end; the exit code."""
    facts: Callable[[Path], Mapping[str, str]]
    """What must be the same whatever happened: name -> content or digest."""


def stages(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return each stage's number of attempts, and its result (empty: none)."""
    found = {}
    for stage in sorted((root / "stages").glob("*/*")):
        attempts = [p for p in stage.glob("attempts/*") if p.name.isdigit()]
        result = stage / "result.json"
        found[f"{stage.parent.name}/{stage.name}"] = len(attempts), result.read_bytes() if result.exists() else b""
    return found


def records(layout: Layout, *, measured: Collection[str] = ()) -> dict[str, str]:
    """Return each complete stage's scores and rows; values named in `measured` are left out."""
    found = {}
    for path in sorted(layout.stages.glob("*/*")):
        stage = layout.stage(path.parent.name, path.name)
        result = read_result(stage)
        if result is not None:
            scores = {k: v for k, v in result.scores.items() if k not in measured}
            rows = [(r.tokens, r.kind, {k: v for k, v in r.values.items() if k not in measured})
                    for r in stage_rows(layout, stage)]
            found[f"{stage.kind}/{stage.fingerprint}"] = to_json([result.status, scores, rows])
    return found


def wrong_after(before: Mapping[str, tuple[int, bytes]], after: Mapping[str, tuple[int, bytes]]) -> list[str]:
    """Return what a resumed run did that it must not do; `before` is the store at the moment of the kill."""
    said = []
    for stage, (attempts, result) in after.items():
        old_attempts, old_result = before.get(stage, (0, b""))
        if old_result and (result, attempts) != (old_result, old_attempts):
            said.append(f"{stage} was complete and ran again")
        if not result:
            said.append(f"{stage} has no result")
        if attempts > old_attempts + 1:
            said.append(f"{stage} has {attempts} attempts, {old_attempts} at the kill")
    return said + [f"{stage} is gone" for stage in before.keys() - after.keys()]


def one_point(scenario: Scenario, root: Path, crash: Crash, wanted: Mapping[str, str]) -> list[str] | None:
    """Kill one run at one point and run again; return what went wrong, None where the run ended before the point."""
    log = root.with_suffix(".log")
    scenario.prepare(root)
    code = in_child(lambda: scenario.run(root), log, crash)
    if code == 0:
        return None
    if code != KILLED:
        return [f"the armed run ended with {code}: {log.read_text()[-2000:]}"]
    before = stages(root)
    if several := [stage for stage, (attempts, _) in before.items() if attempts > 1]:
        return [f"ran more than once before the kill: {several}"]
    scenario.prepare(root)
    code = in_child(lambda: scenario.run(root), log)
    if code != 0:
        return [f"running again ended with {code}: {log.read_text()[-2000:]}"]
    found = scenario.facts(root)
    different = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
    return wrong_after(before, stages(root)) + [f"{name} differs" for name in different]


def enumerate_points(scenario: Scenario, folder: Path, crash: Crash, part: int) -> dict[str, Any]:
    """Try the points part+1, part+1+PARTS, ...; return how many there were, and what went wrong where."""
    began = time.monotonic()
    whole = folder / "whole"
    scenario.prepare(whole)
    if (code := in_child(lambda: scenario.run(whole), folder / "whole.log")) != 0:
        return {"tried": 0, "wrong": {"0": [f"undisturbed: {code}: {(folder / 'whole.log').read_text()[-2000:]}"]}}
    wanted = scenario.facts(whole)
    tried, wrong = 0, {}
    while True:
        number = part + 1 + tried * PARTS
        root = folder / str(number)
        said = one_point(scenario, root, replace(crash, at=number), wanted)
        shutil.rmtree(root)
        if said is None:
            return {"tried": tried, "wrong": wrong, "facts": len(wanted), "seconds": time.monotonic() - began}
        tried += 1
        if said:
            wrong[str(number)] = said


def main(scenarios: Mapping[str, Scenario], arguments: Sequence[str]) -> None:
    """Command line of a module with scenarios: NAME FOLDER SORT PART; one JSON object on standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=scenarios)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sort", choices=SORTS)
    parser.add_argument("part", type=int)
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True)
    sys.stdout.write(json.dumps(enumerate_points(
        scenarios[given.name], given.folder, SORTS[given.sort], given.part)) + "\n")


def try_all(module: str, name: str, folder: Path, sort: str) -> list[dict[str, Any]]:
    """Run a scenario's module once per part, at the same time; return what each found."""
    started = [
        subprocess.Popen([sys.executable, "-m", module, name, str(folder / str(part)), sort, str(part)], cwd=ROOT,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for part in range(PARTS)
    ]
    found = []
    for process in started:
        out, said = process.communicate()
        assert process.returncode == 0, said
        found.append(json.loads(out.splitlines()[-1]))
    return found


def check(module: str, facts: int, folder: Path, name: str, sort: str, least: int) -> int:
    """Try all points of one enumeration; at least `least` are expected, each compared in at least `facts` facts.

    Returns how many there were.
    """
    found = try_all(module, name, folder, sort)
    tried = sum(part["tried"] for part in found)
    assert {n: said for part in found for n, said in part["wrong"].items()} == {}
    assert tried >= least, "the run has become shorter than this test knows"
    assert all(part["facts"] >= facts for part in found)
    return tried
