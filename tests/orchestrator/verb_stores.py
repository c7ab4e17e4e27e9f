"""Stores for the tests of the verbs: a plan run on the memory executor, without Ray, as a controller would leave it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.executors.memory import MemoryExecutor
from orchestrator.__main__ import main
from orchestrator.plan import Planned
from orchestrator.reconciler import Reconciler
from sweeps.language.graph import Node
from sweeps.language.stage import StageSpec
from sweeps.store import files
from sweeps.store.layout import StageFolder
from sweeps.store.ledger import Ledger, begin_term

Fail = Callable[[StageSpec, int], str]
SHIPPED = Path(__file__).parent.parent.parent / "sweeps"


def never(spec: StageSpec, attempt: int) -> str:
    return ""


def run(plan: Planned, fail: Fail = never, *, steps: int = 600, release: bool = True,
        saves: bool = False) -> Ledger:
    """Run a plan to its end (or `steps` passes far), and leave the sweep released unless told otherwise.

    The breaker is off: what fails alike does so because the test says so.
    """
    policy = plan.sweep.run.policy.model_copy(update={"breaker": None})
    plan = replace(plan, sweep=plan.sweep.model_copy(
        update={"run": plan.sweep.run.model_copy(update={"policy": policy})}))
    folder = plan.layout.sweep(plan.sweep.name)
    ledger, state = begin_term(folder)
    files.replace(folder.plan, plan.file.model_dump_json())
    files.replace(folder.sweep_file, plan.text)
    reconciler = Reconciler(plan, MemoryExecutor(slots=2, fail=fail, saves=saves), ledger, state, lambda notice: None)
    for _ in range(steps):
        reconciler.step()
        if reconciler.finished:
            break
    if release:
        ledger.close()
    return ledger


def node(plan: Planned, kind: str, *words: str) -> Node:
    """Return the first stage of a kind whose label has these words."""
    return next(n for n in plan.graph.nodes.values()
                if n.spec.kind == kind and all(w in n.label.split() for w in words))


def folder_of(plan: Planned, found: Node) -> StageFolder:
    return plan.layout.stage(found.spec.kind, found.spec.fingerprint)


def called(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a verb."""
    capsys.readouterr()
    code = main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err


def answer(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    """Return what a verb with --json says."""
    code, out, _ = called(capsys, *argv, "--json")
    assert code == 0
    printed: dict[str, Any] = json.loads(out)
    assert printed["schema_version"] == 1
    return printed


def content(root: Path) -> dict[str, str]:
    """Return every path below a folder with its content's hash, its mode and when it was changed."""
    found = {}
    for path in sorted(root.rglob("*")):
        stat = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(root))] = f"{digest} {stat.st_mode:o} {stat.st_mtime_ns}"
    return found
