"""`doctor --sandbox`: what stops what on this machine, for a person and for a script."""

from __future__ import annotations

import pytest

from orchestrator.commands.doctor import sandbox_lines
from tests.orchestrator.verb_stores import answer, called
from workloads.sandbox import escapes, kinds
from workloads.sandbox.escapes import QUICK
from workloads.sandbox.escapes.outside import WRITING
from workloads.sandbox.examine import Tried
from workloads.sandbox.ladder import Examined

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(escapes, "CASES", QUICK[:3])


def test_every_kind_has_its_row_and_some_holds(capsys: Captured) -> None:
    if all(kind.missing() for kind in kinds.LADDER):
        pytest.skip("no sandbox on this machine")
    said = answer(capsys, "doctor", "--sandbox")
    assert [one["kind"] for one in said["sandboxes"]] == ["apptainer", "bubblewrap", "namespaces"]
    assert said["holds"] == [one["kind"] for one in said["sandboxes"] if one["holds"]] != []
    for one in said["sandboxes"]:
        assert bool(one["reason"]) != (len(one["cases"]) == 3)


def test_where_none_holds_the_exit_code_says_so(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "LADDER", (kinds.Kind(name="none", program="no-such-program",
                                                     command=lambda command, *_: command),))
    code, out, _ = called(capsys, "doctor", "--sandbox")
    assert code == 4 and "none        not tried: no-such-program is not installed" in out
    assert "No sandbox holds here: what needs one is not evaluated" in out


def test_a_kind_that_lets_one_case_out_does_not_hold(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "LADDER", (kinds.UNSAFE,))
    monkeypatch.setattr(escapes, "CASES", [case for case in WRITING if case.name == "modes of the secret"])
    code, out, _ = called(capsys, "doctor", "--sandbox")
    assert code == 4 and "unsafe      does not stop 1 of 1: modes of the secret" in out
    assert "No sandbox holds here" in out


def test_the_table_names_what_escaped() -> None:
    good, bad = (Tried(case=QUICK[0], stopped=stopped, seen="") for stopped in (True, False))
    lines = list(sandbox_lines([Examined(kind="leaky", tried=(bad,)), Examined(kind="tight", tried=(good,))]))
    assert lines[1].split()[-2:] == ["ESCAPED", "stopped"]
    assert f"leaky       does not stop 1 of 1: {QUICK[0].name}" in lines
    assert lines[-1].endswith("programs that a model wrote are run in: tight")
