"""A bank of rules that was changed, or that is another stage's, is told before a job is made for what reads it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.board import Board, Status
from orchestrator.plan import Planned, stage_states
from sweeps.store import integrity
from tests.orchestrator.plans import planned
from tests.orchestrator.verb_stores import run


def to_be_made_anew(root: Path) -> tuple[Planned, str, str]:
    """Return a finished sweep one of whose upstream runs has no result, that run, and the first bank that it reads."""
    plan = planned(root)
    run(plan)
    reader = next(n.spec for n in plan.graph.nodes.values() if n.spec.kind == "prepretrain")
    plan.layout.stage("prepretrain", reader.fingerprint).result.unlink()
    return plan, reader.fingerprint, next(i.fingerprint for i in reader.inputs if i.kind == "rules")


def damaged(plan: Planned, bank: str) -> None:
    rows = plan.layout.stage("rules", bank).attempt(1).metrics
    rows.write_bytes(rows.read_bytes()[:-1] + b" ")


def foreign(plan: Planned, bank: str) -> None:
    """Put a whole bank into the place of this one; each of its files is as its own result says."""
    folder = plan.layout.stage("rules", bank).path
    other = next(path for path in sorted(folder.parent.iterdir()) if path != folder)
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


@pytest.mark.parametrize(("harm", "said"), [(damaged, "SHA-256"), (foreign, "copy of another stage's")])
def test_a_bank_that_is_not_itself_keeps_what_reads_it_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: object, said: str
) -> None:
    monkeypatch.setattr(integrity, "SMALL_BYTES", 0)  # as a bank of several MB, of which sizes alone are compared else
    plan, reader, bank = to_be_made_anew(tmp_path)
    assert stage_states(plan, {})[reader].state == "run" and Board(plan).status[reader] is Status.WAITING
    harm(plan, bank)  # type: ignore[operator]
    states, board = stage_states(plan, {}), Board(plan)
    assert states[bank].state == states[reader].state == "blocked"
    assert said in states[bank].reason and "remove the folder" in states[bank].reason
    assert board.status[bank] is Status.FAILED and board.status[reader] is Status.SKIPPED
    assert said in board.reasons[bank]


def test_only_banks_that_will_be_read_are_compared_byte_by_byte(tmp_path: Path) -> None:
    plan, reader, bank = to_be_made_anew(tmp_path)
    every = set(plan.graph.nodes)
    banks = {key for key, node in plan.graph.nodes.items() if node.spec.kind == "rules"}
    assert {bank} <= plan.graph.banks_to_read(every - {reader}) < banks
    assert plan.graph.banks_to_read(every) == plan.graph.banks_to_read(set()) == set()
