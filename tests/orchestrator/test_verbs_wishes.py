"""`cancel` and `retry`: what is asked, of whom, and what asking cannot change."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from cluster.executors.memory import MemoryExecutor
from cluster.job import JobHandle
from orchestrator.board import Status
from orchestrator.plan import Planned
from orchestrator.reconciler import Reconciler
from orchestrator.watch import open_stages
from sweeps.errors import InDoubtError
from sweeps.language.stage import StageSpec
from sweeps.store import claims, files
from sweeps.store.layout import Layout
from sweeps.store.ledger import Ledger, State, begin_term, fold, read_events
from sweeps.store.requests import Wish, pending
from tests.orchestrator.plans import planned
from tests.orchestrator.verb_stores import answer, called, run


def bad_upstream(spec: StageSpec, attempt: int) -> str:
    changed = spec.sections["upstream"].changed if spec.kind == "prepretrain" else {}
    return "ValueError" if changed.get("complexity") == {"band": "30-45"} else ""


def asked(root: Path, name: str = "t") -> list[tuple[Wish, tuple[str, ...]]]:
    return [(r.wish, r.trials) for r in pending(Layout(root).sweep(name))]


def test_a_living_controller_is_asked_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(planned(tmp_path), steps=1, release=False)
    code, text, _ = called(capsys, "cancel", "nca_30-45-web-s0", "--root", tmp_path)
    assert code == 0 and "asked pid" in text and "within a second" in text
    assert asked(tmp_path) == [(Wish.CANCEL, ("nca_30-45-web-s0",))]
    _, text, _ = called(capsys, "status", "--root", tmp_path)
    assert "asked   cancel 1 trials, not yet applied" in text


def test_without_a_controller_the_request_is_kept_with_the_command_that_applies_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(tmp_path)
    run(plan, steps=0)
    told = answer(capsys, "cancel", "nca_*-s0", "--root", tmp_path)["requests"][0]
    assert told["trials"] == ["nca_30-45-web-s0", "nca_60-75-web-s0"] and told["controller"] == ""
    assert told["request"] == 1 and told["command"].startswith("orchestrator sweep FILE")
    _, text, _ = called(capsys, "cancel", "scratch-web-s0", "--root", tmp_path)
    assert "no controller is alive" in text and "orchestrator sweep FILE" in text
    run(plan)  # the next controller applies both, and takes the files away
    assert not asked(tmp_path)
    assert answer(capsys, "status", "--root", tmp_path)["sweeps"][0]["trials"] == {"cancelled": 3, "done": 3}


def test_a_retried_trial_runs_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(tmp_path)
    run(plan, steps=0)
    called(capsys, "cancel", "--all", "t", "--root", tmp_path)
    run(plan)
    assert answer(capsys, "status", "--root", tmp_path)["sweeps"][0]["trials"] == {"cancelled": 6}
    told = answer(capsys, "retry", "*", "--root", tmp_path)["requests"][0]
    assert len(told["trials"]) == 6
    run(plan)
    assert answer(capsys, "status", "--root", tmp_path)["sweeps"][0]["trials"] == {"done": 6}


def test_retry_failed_asks_for_those_that_failed_and_for_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(tmp_path)
    run(plan, bad_upstream)
    told = answer(capsys, "retry", "--failed", "--root", tmp_path)["requests"]
    assert [r["trials"] for r in told] == [["nca_30-45-web-s0", "nca_30-45-web-s1"]]
    again = answer(capsys, "retry", "--failed", "--root", tmp_path)["requests"][0]
    assert again["trials"] == [] and set(again["unchanged"].values()) == {"asked already, not yet applied"}
    assert len(asked(tmp_path)) == 1
    run(plan)
    assert answer(capsys, "status", "--root", tmp_path)["sweeps"][0]["trials"] == {"done": 6}
    assert answer(capsys, "retry", "--failed", "--root", tmp_path)["requests"] == []


def test_what_is_complete_stays_and_no_request_is_left(
    finished_plan: Planned, capsys: pytest.CaptureFixture[str]
) -> None:
    root = finished_plan.layout.root
    for verb in ("cancel", "retry"):
        code, text, _ = called(capsys, verb, "scratch-web-s0", "--root", root)
        assert code == 0 and "complete already" in text
    assert answer(capsys, "cancel", "--all", "t", "--root", root)["requests"][0]["trials"] == []
    assert not asked(root)


def test_a_diverged_trial_is_not_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(planned(tmp_path), lambda spec, attempt: "diverged" if spec.kind == "prepretrain" else "")
    _, text, _ = called(capsys, "retry", "nca_30-45-web-s0", "--root", tmp_path)
    assert "not tried again" in text and not asked(tmp_path)


@pytest.mark.parametrize(("argv", "said"), [
    (["cancel", "scratch-web-s8"], "Did you mean 'scratch-web-s"),
    (["cancel", "scratch-web-s0", "nca_9*"], "'nca_9*' names no trial"),
    (["cancel"], "--all FILE|NAME"),
    (["cancel", "scratch-web-s0", "--all", "t"], "not both"),
    (["cancel", "--all", "u"], "no such sweep"),
    (["retry"], "--failed"),
    (["retry", "x", "--failed"], "not both"),
    (["retry", "--failed", "--sweep", "u"], "no such sweep"),
])
def test_a_wrong_wish_asks_for_nothing_and_exits_2(
    argv: list[str], said: str, finished_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = called(capsys, *argv, "--root", finished_store)
    assert code == 2 and said in err and not asked(finished_store)


def test_trials_of_several_sweeps_need_the_sweeps_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        run(planned(tmp_path, name=name), steps=0)
    code, _, err = called(capsys, "cancel", "scratch-web-s0", "--root", tmp_path)
    assert code == 2 and "one, two" in err and "--sweep" in err
    told = answer(capsys, "cancel", "scratch-web-s0", "--sweep", "two", "--root", tmp_path)["requests"]
    assert [r["sweep"] for r in told] == ["two"] and not asked(tmp_path, "one")


def test_a_root_without_sweeps_is_the_persons_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = called(capsys, "cancel", "x", "--root", tmp_path / "none")
    assert code == 2 and "no sweep yet" in err


class TestWithoutAController:
    """Jobs that live on a cluster after their controller has left."""

    @pytest.fixture
    def executor(self, monkeypatch: pytest.MonkeyPatch) -> MemoryExecutor:
        """A cluster that goes on without us."""
        made = MemoryExecutor(slots=3, seconds=math.inf, detaches=True)
        monkeypatch.setattr("orchestrator.unattended.registry.make", lambda *_, **__: made)
        return made

    def left(self, plan: Planned, executor: MemoryExecutor) -> Ledger:
        """A controller has submitted, and has died or left."""
        folder = plan.layout.sweep(plan.sweep.name)
        ledger, state = begin_term(folder)
        ledger.append("cluster", profile="memory")
        files.replace(folder.plan, plan.file.model_dump_json())
        Reconciler(plan, executor, ledger, state, lambda notice: None).step()
        return ledger

    def state(self, root: Path) -> State:
        return fold(read_events(Layout(root).sweep("t")))

    def test_all_jobs_are_asked_to_leave_at_once_and_none_comes_back(
        self, tmp_path: Path, executor: MemoryExecutor, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plan = planned(tmp_path)
        self.left(plan, executor).close(exit_code=130)
        live = len(list(open_stages(self.state(tmp_path))))
        assert live and executor.slots_free() < 3
        code, text, _ = called(capsys, "cancel", "--all", "t", "--root", tmp_path)
        assert code == 0 and "no controller is alive: done here" in text and "asked to checkpoint and leave" in text
        assert executor.slots_free() == 3 and not asked(tmp_path)
        state = self.state(tmp_path)
        assert state.cancelled == set(plan.graph.paths) and state.released and state.exit_code == 130
        ledger, state = begin_term(plan.layout.sweep("t"))
        after = Reconciler(plan, executor, ledger, state, lambda notice: None)
        after.step()
        after.step()
        assert after.finished and executor.submissions == 1, "the next controller sees that they were asked"
        assert not self.state(tmp_path).ends and set(after.board.status.values()) == {Status.CANCELLED}
        ledger.close()

    def test_what_another_trial_or_a_living_sweep_wants_goes_on(
        self, tmp_path: Path, executor: MemoryExecutor, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plan = planned(tmp_path)
        self.left(plan, executor).close()
        assert executor.slots_free() == 1
        _, text, _ = called(capsys, "cancel", "nca_60-75-*", "--root", tmp_path)
        assert "0 jobs asked" in text and executor.slots_free() == 1, "other trials' stages are in the same jobs"
        _, text, _ = called(capsys, "cancel", "nca_30-45-*", "--root", tmp_path)
        assert "1 job asked" in text and executor.slots_free() == 2, "what the other trials need goes on"
        ledger, _ = begin_term(plan.layout.sweep("other"))
        for key in open_stages(self.state(tmp_path)):
            claims.add_interest(plan.layout.stage(plan.graph.nodes[key].spec.kind, key), "other")
        _, text, _ = called(capsys, "cancel", "--all", "t", "--root", tmp_path)
        assert "0 jobs asked" in text and executor.slots_free() == 2, "the other sweep needs it"
        ledger.close()  # it leaves, and its interest stays behind
        called(capsys, "retry", "scratch-*", "--sweep", "t", "--root", tmp_path)
        _, text, _ = called(capsys, "cancel", "--all", "t", "--root", tmp_path)
        assert "1 job asked" in text and executor.slots_free() == 3

    def test_a_living_controller_is_left_to_do_it(
        self, tmp_path: Path, executor: MemoryExecutor, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ledger = self.left(planned(tmp_path), executor)
        free = executor.slots_free()
        _, text, _ = called(capsys, "cancel", "--all", "t", "--root", tmp_path)
        assert "asked pid" in text and len(asked(tmp_path)) == 1 and executor.slots_free() == free
        ledger.close()

    def test_a_cluster_that_does_not_answer_keeps_the_request(
        self, tmp_path: Path, executor: MemoryExecutor, capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.left(planned(tmp_path), executor).close()

        def find(_: str) -> list[JobHandle]:
            raise InDoubtError("squeue: no answer in 20 s")

        monkeypatch.setattr(executor, "find", find)
        code, text, _ = called(capsys, "cancel", "--all", "t", "--root", tmp_path)
        assert code == 0 and "no answer in 20 s" in text and "the request is kept" in text
        state = self.state(tmp_path)
        assert len(asked(tmp_path)) == 1 and not state.cancelled and state.released
