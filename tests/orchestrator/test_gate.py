"""`gate: require`: what follows an upstream that was not learned does not run, and every view says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.executors import _synthetic
from cluster.executors.memory import MemoryExecutor
from orchestrator.board import Status
from orchestrator.plan import Planned, stage_states
from orchestrator.progress import Progress
from orchestrator.reconciler import Notice, Reconciler
from orchestrator.watch import look
from sweeps.language.gate import FOLLOWING, LEARNED, Verdict
from sweeps.language.plugins import Registry
from sweeps.language.stage import StageSpec
from sweeps.language.stages import GraphBuilder
from sweeps.store import files
from sweeps.store.ledger import begin_term, fold, read_events
from tests.orchestrator.plans import planned
from tests.orchestrator.verb_stores import answer, called, node, run
from tests.sweeps import fakes

BAND = "30-45"


@contextmanager
def said(verdicts: dict[str, Verdict]) -> Iterator[None]:
    """Let simulated gates say this of their fingerprints, and `learned` of others."""
    true = _synthetic.scores

    def scores(spec: StageSpec, fingerprint: str) -> dict[str, float]:
        found = true(spec, fingerprint)
        return {**found, LEARNED: verdicts[fingerprint].number} if fingerprint in verdicts else found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_synthetic, "scores", scores)
        yield


def gates(plan: Planned) -> list[str]:
    return list(dict.fromkeys(s.fingerprint for path in plan.graph.paths.values() for s in path if s.role == "gate"))


def doubted(plan: Planned, verdict: Verdict = Verdict.NOT_LEARNED) -> dict[str, Verdict]:
    """Of both seeds of one band."""
    return {node(plan, "evaluate", "gate", BAND, f"s{seed}").spec.fingerprint: verdict for seed in (0, 1)}


def trials(plan: Planned) -> dict[str, str]:
    return dict(look(plan.layout, plan.sweep.name).trials)


def attempts(plan: Planned, key: str) -> int:
    folder = plan.layout.stage(plan.graph.nodes[key].spec.kind, key).attempts
    return len(list(folder.iterdir())) if folder.is_dir() else 0


@pytest.mark.parametrize("verdict", [Verdict.NOT_LEARNED, Verdict.INCONCLUSIVE])
def test_nothing_is_pre_trained_after_an_upstream_that_was_not_learned(tmp_path: Path, verdict: Verdict) -> None:
    plan = planned(tmp_path, gate="require")
    with said(doubted(plan, verdict)):
        run(plan)
    assert trials(plan) == {t.id: "withheld" if t.complexity == BAND else "done" for t in plan.trials}
    for trial in plan.trials:
        for step in plan.graph.paths[trial.id]:
            barred = trial.complexity == BAND and step.role in FOLLOWING
            assert attempts(plan, step.fingerprint) == (0 if barred else 1), step


def test_a_report_goes_on(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    with said(doubted(plan)):
        run(plan)
    assert set(trials(plan).values()) == {"done"}


def test_requiring_changes_no_stage(tmp_path: Path) -> None:
    one, two = planned(tmp_path), planned(tmp_path, gate="require")
    assert one.graph.nodes.keys() == two.graph.nodes.keys() and one.graph.paths == two.graph.paths
    assert one.file.gate == "report" and two.file.gate == "require"


def test_no_stage_travels_in_one_job_with_its_gate(tmp_path: Path) -> None:
    plan = planned(tmp_path, gate="require", run={"cluster": "memory", "pack": 20})
    run(plan)
    tickets = [t for s in fold(read_events(plan.layout.sweep("t"))).submissions.values() for t in s.tickets]
    assert max(map(len, tickets)) > 3
    for ticket in tickets:
        assert not {plan.graph.nodes[key].gate for key in ticket} & set(ticket)
    assert set(trials(plan).values()) == {"done"}


def test_the_next_run_withholds_the_same_and_submits_nothing(tmp_path: Path) -> None:
    plan = planned(tmp_path, gate="require")
    with said(doubted(plan)):
        run(plan)
    ledger, state = begin_term(plan.layout.sweep("t"))
    again = Reconciler(plan, MemoryExecutor(slots=2), ledger, state, lambda notice: None)
    progress = Progress(plan.file.trials, again.board)
    assert again.finished and progress.all_ended
    assert progress.counts()["withheld"] == 2 and progress.counts()["done"] == 4
    end = next(e for e in progress.ended.values() if e.state == "withheld")
    assert end.reason == "upstream not learned, and gate: require"
    again.board.cancel(["nca_30-45-web-s0"])
    again.board.retry(["nca_30-45-web-s0"])
    assert not again.board.waiting, "a verdict is a result: it is not tried again"


def test_a_plan_counts_on_nothing_that_is_withheld(tmp_path: Path) -> None:
    plan = planned(tmp_path, gate="require")
    assert {s.state for s in stage_states(plan, {}).values()} == {"run"}, "nobody knows yet"
    with said(doubted(plan)):
        run(plan)
    states = {key: s.state for key, s in stage_states(plan, {}).items()}
    assert set(states.values()) == {"reuse", "withheld"}
    assert {k for k, s in states.items() if s == "withheld"} == {
        step.fingerprint for t in plan.trials if t.complexity == BAND for step in plan.graph.paths[t.id]
        if step.role in FOLLOWING}


def test_a_person_is_told_once_for_each_gate(tmp_path: Path) -> None:
    plan, notices = planned(tmp_path, gate="require"), list[Notice]()
    ledger, state = begin_term(plan.layout.sweep("t"))
    with said(doubted(plan)):
        reconciler = Reconciler(plan, MemoryExecutor(slots=2), ledger, state, notices.append)
        while not reconciler.finished:
            reconciler.step()
    told = [n.text for n in notices if n.kind == "withheld"]
    assert len(told) == 2 and all("not learned" in text and "stages do not run" in text for text in told)


def test_what_another_sweep_has_made_is_used(tmp_path: Path) -> None:
    plan = planned(tmp_path, name="other")
    with said(doubted(plan)):
        run(plan)
    strict = planned(tmp_path, name="strict", gate="require")
    run(strict)
    assert set(trials(strict).values()) == {"done"}, "there is nothing left to withhold"


def test_a_gate_that_fails_fails_its_trials(tmp_path: Path) -> None:
    plan = planned(tmp_path, gate="require")
    bad = gates(plan)[0]
    run(plan, lambda spec, attempt: "ValueError" if spec.fingerprint == bad else "")
    states = trials(plan)
    failed = {t.id for t in plan.trials if bad in [s.fingerprint for s in plan.graph.paths[t.id]]}
    assert {t for t, s in states.items() if s == "failed"} == failed and len(failed) == 1
    assert sum(s == "done" for s in states.values()) == 5


def test_a_control_goes_on(tmp_path: Path) -> None:
    axes = {"upstream": ["none", "nca", "nca_shuffled"], "complexity": [BAND], "domain": ["web"], "seed": [0]}
    plan = planned(tmp_path, gate="require", axes=axes)
    known = fakes.registries()
    control = replace(known.upstreams["nca_shuffled"], control=True)
    known = replace(known, upstreams=Registry("upstream", {**known.upstreams, "nca_shuffled": control}))
    graph = GraphBuilder(known, "tiny", gate_required=True).build(plan.trials)
    waiting = {trial: {graph.nodes[s.fingerprint].gate is not None for s in path if s.role in FOLLOWING}
               for trial, path in graph.paths.items()}
    assert waiting == {"scratch-web-s0": {False}, "nca_30-45-web-s0": {True}, "nca_shuffled-web-s0": {False}}


def test_verbs_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(tmp_path, gate="require")
    with said(doubted(plan)):
        run(plan)
    status = answer(capsys, "status", "--root", tmp_path)["sweeps"][0]
    assert status["trials"] == {"done": 4, "withheld": 2} and status["stages"]["withheld"] > 2
    told = answer(capsys, "why", "nca_30-45-web-s0", "--root", tmp_path)
    assert told["state"] == "withheld" and told["decisive"]["facts"]["gate"] in doubted(plan)
    assert "gate: require" in told["decisive"]["reason"]
    _, out, err = called(capsys, "retry", "nca_30-45-web-s0", "--root", tmp_path)
    assert "its upstream was not learned" in out + err


@settings(max_examples=12)
@given(st.data())
def test_whatever_the_verdicts_and_wherever_the_controller_dies(data: Any) -> None:
    """A trial is done where its gate let it through, and withheld elsewhere, after any number of controllers."""
    with TemporaryDirectory() as folder:
        plan = planned(Path(folder), gate="require", run={"cluster": "memory", "pack": data.draw(st.integers(1, 9))})
        verdicts = {key: data.draw(st.sampled_from(list(Verdict))) for key in gates(plan)}
        executor = MemoryExecutor(slots=data.draw(st.integers(1, 3)))
        with said(verdicts):
            for steps in (*data.draw(st.lists(st.integers(0, 4), max_size=3)), 400):
                ledger, state = begin_term(plan.layout.sweep("t"), takeover=True)
                files.replace(plan.layout.sweep("t").plan, plan.file.model_dump_json())
                reconciler = Reconciler(plan, executor, ledger, state, lambda notice: None)
                for _ in range(steps):
                    reconciler.step()
        assert reconciler.finished
        board = reconciler.board.status
        for trial, path in plan.graph.paths.items():
            learned = all(verdicts.get(s.fingerprint, Verdict.LEARNED) is Verdict.LEARNED for s in path)
            assert trials(plan)[trial] == ("done" if learned else "withheld")
            assert {board[s.fingerprint] for s in path if s.role in FOLLOWING} == {
                Status.DONE if learned else Status.WITHHELD}
