"""The reconciler on the memory executor: every stage once, whatever is lost in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.executors.memory import MemoryExecutor
from cluster.job import JobHandle, JobReport, JobRequest, JobState
from orchestrator.board import Status
from orchestrator.progress import Progress
from orchestrator.reconciler import Notice, Reconciler
from sweeps.errors import EnvironmentError_, InDoubtError, OwnedError, StorageError
from sweeps.language.stage import StageSpec
from sweeps.store import claims, requests
from sweeps.store.ledger import Ledger, begin_term, fold, read_events
from sweeps.store.records import open_attempt, read_result
from tests.orchestrator.plans import planned


def begin(plan: object, executor: MemoryExecutor, notices: list[Notice] | None = None) -> tuple[Reconciler, Ledger]:
    from orchestrator.plan import Planned

    assert isinstance(plan, Planned)
    ledger, state = begin_term(plan.layout.sweep(plan.sweep.name))
    sink = notices if notices is not None else []
    return Reconciler(plan, executor, ledger, state, sink.append), ledger


def drive(reconciler: Reconciler, steps: int = 400) -> None:
    for _ in range(steps):
        reconciler.step()
        if reconciler.finished:
            return
    raise AssertionError(f"not finished after {steps} steps: {reconciler.board.counts()}")


def test_every_stage_runs_once_and_every_trial_ends(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    reconciler, _ = begin(plan, MemoryExecutor(slots=2))
    progress = Progress(plan.file.trials, reconciler.board)
    drive(reconciler)
    ended = progress.update()
    assert {e.state for e in ended} == {"done"} and len(ended) == len(plan.trials)
    for key, node in plan.graph.nodes.items():
        stage = plan.layout.stage(node.spec.kind, key)
        assert read_result(stage) is not None
        assert len(list(stage.attempts.iterdir())) == 1, node.label


def test_claims_that_a_power_failure_left_without_content_are_followed_by_new_ones(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    folders = [plan.layout.stage(node.spec.kind, key) for key, node in plan.graph.nodes.items()]
    for stage in folders:
        stage.claims.mkdir(parents=True)
        (stage.claims / "1.json").touch()
    reconciler, _ = begin(plan, MemoryExecutor(slots=2))
    drive(reconciler)
    for stage in folders:
        assert read_result(stage) is not None
        held = claims.holder(stage)
        assert held is not None and (held.number, held.sweep) == (2, "t")


def test_a_second_run_reuses_everything(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    first, ledger = begin(plan, MemoryExecutor(slots=2))
    drive(first)
    ledger.close()
    second, _ = begin(plan, MemoryExecutor(slots=2))
    assert second.finished
    assert Progress(plan.file.trials, second.board).all_ended


def test_a_lost_acknowledgement_submits_nothing_twice(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    executor = MemoryExecutor(slots=2, lose_answer=lambda name: True)
    reconciler, _ = begin(plan, executor)
    drive(reconciler)
    for key, node in plan.graph.nodes.items():
        assert len(list(plan.layout.stage(node.spec.kind, key).attempts.iterdir())) == 1


def test_a_failure_fails_only_what_needs_it(tmp_path: Path) -> None:
    def fail(spec: StageSpec, attempt: int) -> str:
        bad = spec.kind == "prepretrain" and spec.sections["upstream"].changed.get("complexity") == {"band": "30-45"}
        return "ValueError" if bad else ""

    plan = planned(tmp_path)
    notices: list[Notice] = []
    reconciler, _ = begin(plan, MemoryExecutor(slots=2, fail=fail), notices)
    progress = Progress(plan.file.trials, reconciler.board)
    drive(reconciler)
    states = {e.id: e.state for e in progress.update()}
    assert {k for k, v in states.items() if v == "failed"} == {"nca_30-45-web-s0", "nca_30-45-web-s1"}
    assert sum(v == "done" for v in states.values()) == 4
    assert [n for n in notices if n.kind == "failed"]


def test_divergence_is_a_result_and_not_a_failure(tmp_path: Path) -> None:
    def fail(spec: StageSpec, attempt: int) -> str:
        return "diverged" if spec.kind == "pretrain" and not spec.inputs[1:] else ""

    plan = planned(tmp_path)
    reconciler, _ = begin(plan, MemoryExecutor(slots=2, fail=fail))
    progress = Progress(plan.file.trials, reconciler.board)
    drive(reconciler)
    states = {e.id: e.state for e in progress.update()}
    assert {k for k, v in states.items() if v == "diverged"} == {"scratch-web-s0", "scratch-web-s1"}


def test_a_killed_job_is_tried_again_and_given_up_with_its_reason(tmp_path: Path) -> None:
    def fail(spec: StageSpec, attempt: int) -> str:
        if spec.kind == "tokenizer":
            return "killed" if attempt < 3 else ""
        return "killed" if spec.kind == "rules" else ""

    plan = planned(tmp_path, run={"cluster": "memory", "policy": {"breaker": None}})
    reconciler, _ = begin(plan, MemoryExecutor(slots=2, fail=fail))
    drive(reconciler)
    status = {n.spec.kind: reconciler.board.status[k] for k, n in plan.graph.nodes.items()}
    assert status["tokenizer"] is Status.DONE and status["rules"] is Status.FAILED


def test_a_kill_inside_a_pack_costs_only_its_own_stage(tmp_path: Path) -> None:
    plan = planned(tmp_path, run={"cluster": "memory", "pack": 20})
    killed: list[str] = []

    def fail(spec: StageSpec, attempt: int) -> str:
        if spec.kind == "prepretrain" and not killed:
            killed.append(spec.fingerprint)
            return "killed"
        return ""

    reconciler, ledger = begin(plan, MemoryExecutor(slots=1, fail=fail))
    drive(reconciler)
    tickets = [s.tickets for s in fold(read_events(plan.layout.sweep("t"))).submissions.values()]
    first = next(ticket for found in tickets for ticket in found if killed[0] in ticket)
    assert 0 < first.index(killed[0]) < len(first) - 1, "not in the middle of a pack"
    attempts = {k: len(list(plan.layout.stage(n.spec.kind, k).attempts.iterdir())) for k, n in plan.graph.nodes.items()}
    assert attempts == {key: 2 if key in killed else 1 for key in plan.graph.nodes}
    assert set(reconciler.board.status.values()) == {Status.DONE}
    assert [e["fingerprint"] for e in read_events(plan.layout.sweep("t")) if e["event"] == "interrupted"] == killed


def test_a_job_leaves_when_nobody_wants_its_stage_in_hand_and_another_runs_the_rest_of_its_pack(tmp_path: Path) -> None:
    plan = planned(tmp_path, axes={"upstream": ["none"], "domain": ["web"], "seed": [0, 1]},
                   run={"cluster": "memory", "pack": 40})
    executor = MemoryExecutor(slots=1, seconds=math.inf)
    reconciler, _ = begin(plan, executor)
    reconciler.step()
    [job] = reconciler._jobs
    (trial, loser), (_, wanted) = ((t, {s.fingerprint for s in path}) for t, path in plan.graph.paths.items())
    while job.stages[0] in wanted:
        executor.advance(job.handle)
        reconciler.step()
    in_hand = job.stages[0]
    assert wanted & set(job.stages) and not job.asked
    executor.advance(job.handle)  # it has begun
    requests.ask(plan.layout.sweep("t"), requests.Wish.CANCEL, [trial])
    reconciler.step()
    assert job.asked and in_hand not in wanted
    for _ in range(400):
        reconciler.step()
        for handle in executor.running():
            executor.advance(handle)
    assert reconciler.finished
    status = reconciler.board.status
    stages = {k: plan.layout.stage(node.spec.kind, k) for k, node in plan.graph.nodes.items()}
    assert {status[k] for k in wanted} == {Status.DONE} and status[in_hand] is Status.CANCELLED
    assert all(len(list(stages[k].attempts.iterdir())) == 1 for k in wanted | {in_hand})
    assert not any(stages[k].attempts.is_dir() for k in loser if status[k] is Status.CANCELLED and k != in_hand)


def test_a_controller_that_vanished_leaves_everything_to_its_successor(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    executor = MemoryExecutor(slots=2)
    first, _ = begin(plan, executor)
    for _ in range(3):
        first.step()
    ledger, state = begin_term(plan.layout.sweep("t"), takeover=True)
    second = Reconciler(plan, executor, ledger, state, lambda notice: None)
    drive(second)
    for key, node in plan.graph.nodes.items():
        stage = plan.layout.stage(node.spec.kind, key)
        assert read_result(stage) is not None and len(list(stage.attempts.iterdir())) == 1


def test_a_second_controller_is_refused_and_names_the_owner(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    begin(plan, MemoryExecutor(slots=2))
    with pytest.raises(OwnedError, match="pid"):
        begin(plan, MemoryExecutor(slots=2))


def test_a_fenced_controllers_later_lines_count_for_nothing(tmp_path: Path) -> None:
    folder = planned(tmp_path).layout.sweep("t")
    old, _ = begin_term(folder)
    old.append("intent", name="a", tickets=[["x"]])
    begin_term(folder, takeover=True)
    old.append("intent", name="b", tickets=[["y"]])
    assert set(fold(read_events(folder)).submissions) == {"a"}


def test_two_sweeps_that_share_stages_run_each_once(tmp_path: Path) -> None:
    one, two = planned(tmp_path, name="one"), planned(tmp_path, name="two")
    executor = MemoryExecutor(slots=4)
    first, _ = begin(one, executor)
    second, _ = begin(two, executor)
    for _ in range(400):
        first.step()
        second.step()
        if first.finished and second.finished and not second._following:
            break
    for key, node in one.graph.nodes.items():
        stage = one.layout.stage(node.spec.kind, key)
        assert read_result(stage) is not None and len(list(stage.attempts.iterdir())) == 1
        held = claims.holder(stage)
        assert held is not None and held.number == 1


def test_cancelled_trials_end_and_the_others_go_on(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    folder = plan.layout.sweep("t")
    requests.ask(folder, requests.Wish.CANCEL, ["nca_30-45-web-s0", "nca_30-45-web-s1", "no-such-trial"])
    reconciler, ledger = begin(plan, MemoryExecutor(slots=2))
    progress = Progress(plan.file.trials, reconciler.board)
    drive(reconciler)
    progress.update()
    assert {e.id for e in progress.ended.values() if e.state == "cancelled"} == {"nca_30-45-web-s0", "nca_30-45-web-s1"}
    assert sum(e.state == "done" for e in progress.ended.values()) == 4
    assert not requests.pending(folder)
    ledger.close()

    again, _ = begin(plan, MemoryExecutor(slots=2))
    assert again.finished, "a cancelled trial stays cancelled when the command is run again"
    progress = Progress(plan.file.trials, again.board)
    assert progress.all_ended
    requests.ask(folder, requests.Wish.RETRY, ["nca_30-45-web-s0"])
    again.step()
    assert progress.reopen() == ["nca_30-45-web-s0"]
    drive(again)
    progress.update()
    states = {e.id: e.state for e in progress.ended.values()}
    assert states["nca_30-45-web-s0"] == "done" and states["nca_30-45-web-s1"] == "cancelled"


def test_cancel_stops_running_jobs_that_nobody_else_wants(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    executor = MemoryExecutor(slots=2, seconds=1e6)
    reconciler, _ = begin(plan, executor)
    progress = Progress(plan.file.trials, reconciler.board)
    reconciler.step()
    assert reconciler.board.counts()[Status.RUNNING]
    requests.ask(plan.layout.sweep("t"), requests.Wish.CANCEL, list(plan.graph.paths))
    reconciler.step()
    progress.update()
    assert progress.all_ended and reconciler.finished
    assert {e.state for e in progress.ended.values()} == {"cancelled"}


def test_cancel_leaves_running_what_another_sweep_waits_for(tmp_path: Path) -> None:
    one, two = planned(tmp_path, name="one"), planned(tmp_path, name="two")
    now = [0.0]
    executor = MemoryExecutor(slots=4, seconds=1.0, clock=lambda: now[0])
    first, _ = begin(one, executor)
    second, _ = begin(two, executor)
    first.step()
    second.step()
    requests.ask(one.layout.sweep("one"), requests.Wish.CANCEL, list(one.graph.paths))
    for _ in range(400):
        now[0] += 2.0
        first.step()
        second.step()
        if second.finished:
            break
    assert second.finished and second.board.counts()[Status.DONE] == len(two.graph.nodes)
    for key, node in two.graph.nodes.items():
        assert len(list(two.layout.stage(node.spec.kind, key).attempts.iterdir())) == 1, node.label


def test_a_failed_trial_runs_again_when_asked_while_the_controller_lives(tmp_path: Path) -> None:
    broken = [True]

    def fail(spec: StageSpec, attempt: int) -> str:
        return "ValueError" if spec.kind == "prepretrain" and broken[0] else ""

    plan = planned(tmp_path, run={"cluster": "memory", "policy": {"breaker": None}})
    reconciler, _ = begin(plan, MemoryExecutor(slots=2, fail=fail))
    progress = Progress(plan.file.trials, reconciler.board)
    drive(reconciler)
    progress.update()
    failed = [e.id for e in progress.ended.values() if e.state == "failed"]
    assert len(failed) == 4
    broken[0] = False
    requests.ask(plan.layout.sweep("t"), requests.Wish.RETRY, failed)
    reconciler.step()
    assert sorted(progress.reopen()) == sorted(failed)
    drive(reconciler)
    progress.update()
    assert {e.state for e in progress.ended.values()} == {"done"}


def test_a_fenced_controller_stops_before_it_submits(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    executor = MemoryExecutor(slots=2)
    reconciler, _ = begin(plan, executor)
    begin_term(plan.layout.sweep("t"), takeover=True)
    with pytest.raises(OwnedError, match=r"taken over by pid \d+ on .* \(term 2, this was 1\)"):
        reconciler.step()
    assert executor.submissions == 0


def test_a_job_without_space_pauses_the_sweep_and_counts_as_no_failure(tmp_path: Path) -> None:
    full = [True]

    def fail(spec: StageSpec, attempt: int) -> str:
        return "StorageError" if spec.kind == "corpus" and full[0] else ""

    plan = planned(tmp_path)
    reconciler, ledger = begin(plan, MemoryExecutor(slots=2, fail=fail))
    with pytest.raises(StorageError, match="corpus"):
        drive(reconciler)
    ledger.close()
    full[0] = False
    again, _ = begin(plan, MemoryExecutor(slots=2, fail=fail))
    drive(again)
    assert again.board.counts()[Status.DONE] == len(plan.graph.nodes)


def test_a_job_that_found_no_space_is_past_once_there_is_some_though_its_end_could_not_be_noted(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    full = MemoryExecutor(slots=2, fail=lambda spec, attempt: "StorageError" if spec.kind == "corpus" else "")
    reconciler, ledger = begin(plan, full)
    append = ledger.append

    def without_space(event: str, **fields: object) -> None:
        if event == "ended" and plan.layout.stages.joinpath("corpus").exists():
            raise StorageError("no space is left")
        append(event, **fields)

    ledger.append = without_space  # type: ignore[method-assign]
    with pytest.raises(StorageError):
        drive(reconciler)
    ledger.close()
    full.fail = lambda spec, attempt: ""
    again, _ = begin(plan, full)
    drive(again)
    assert again.board.counts()[Status.DONE] == len(plan.graph.nodes)


def test_a_stage_that_was_changed_after_completion_is_not_believed(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    first, ledger = begin(plan, MemoryExecutor(slots=2))
    drive(first)
    ledger.close()
    key, node = next((k, n) for k, n in plan.graph.nodes.items() if n.spec.kind == "pretrain")
    rows = plan.layout.stage(node.spec.kind, key).attempt(1).metrics
    rows.write_text(rows.read_text() + "more\n")
    notices: list[Notice] = []
    second, _ = begin(plan, MemoryExecutor(slots=2), notices)
    assert second.board.status[key] is Status.FAILED
    assert any(n.kind == "failed" and "changed after it was complete" in n.text for n in notices)

    requests.ask(plan.layout.sweep("t"), requests.Wish.RETRY, list(plan.graph.paths))
    second.step()
    drive(second)
    assert second.board.status[key] is Status.FAILED, "asking for it again does not mend it"


def test_a_job_that_left_because_it_was_asked_to_counts_as_no_failure(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    reconciler, _ = begin(plan, MemoryExecutor(slots=2, seconds=1e6))
    for _ in range(5):
        reconciler.step()
        stages = [k for job in reconciler._jobs for k in job.stages]
        for key in stages:
            stage = plan.layout.stage(plan.graph.nodes[key].spec.kind, key)
            held = claims.holder(stage)
            assert held is not None
            attempt = open_attempt(stage, {"submission": held.submission})
            attempt.folder.stopped.write_text("{}")
            attempt.close()
        reconciler._ask_to_leave(reconciler._jobs)
    assert Status.FAILED not in reconciler.board.status.values()


def test_a_job_that_never_begins_is_not_submitted_for_ever(tmp_path: Path) -> None:
    plan = planned(tmp_path, run={"cluster": "memory", "policy": {"breaker": None}})
    notices: list[Notice] = []
    executor = MemoryExecutor(slots=2, seconds=1e6)
    reconciler, _ = begin(plan, executor, notices)
    for _ in range(40):
        reconciler.step()
        executor.cancel(executor.running())  # they end without a trace
        if reconciler.finished:
            break
    assert reconciler.finished and reconciler.board.counts()[Status.FAILED]
    assert any("before it began" in n.text for n in notices if n.kind == "failed")


def test_a_slot_that_another_sweep_took_meanwhile_is_waited_for(tmp_path: Path) -> None:
    plan, notices = planned(tmp_path), list[Notice]()
    executor = MemoryExecutor(slots=2)
    reconciler, _ = begin(plan, executor, notices)
    submit, free, quicker = executor.submit, executor.slots_free, [3]

    def taken(request: JobRequest) -> list[JobHandle]:
        if quicker[0]:
            quicker[0] -= 1
            executor.slots_free = lambda: 0  # type: ignore[method-assign]
            raise EnvironmentError_("2 jobs, 0 of 2 slots free")
        return submit(request)

    executor.submit = taken  # type: ignore[method-assign]
    for _ in range(400):
        reconciler.step()
        executor.slots_free = free  # type: ignore[method-assign]
        if reconciler.finished:
            break
    assert reconciler.board.counts()[Status.DONE] == len(plan.graph.nodes)
    assert [n.text for n in notices if n.kind == "waits"] == [
        "2 jobs, 0 of 2 slots free; more is submitted as soon as there is room"], "said once"


def test_what_keeps_jobs_waiting_is_said_once_for_each_reason(tmp_path: Path) -> None:
    class Held(MemoryExecutor):
        def poll(self, handles: Sequence[JobHandle]) -> list[JobReport]:
            return [r.model_copy(update={"waits": f"PENDING ({reasons[0]})"}) for r in super().poll(handles)]

    plan, notices, reasons = planned(tmp_path), list[Notice](), ["QOSGrpCpuLimit"]
    reconciler, _ = begin(plan, Held(slots=2, seconds=1e6), notices)
    for _ in range(3):
        reconciler.step()
    reasons[0] = "JobHeldUser"
    reconciler.step()
    waits = [n.text.partition(": ")[2] for n in notices if n.kind == "waits"]
    assert waits == ["PENDING (QOSGrpCpuLimit)", "PENDING (JobHeldUser)"]


def test_a_wish_is_kept_by_a_controller_that_was_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path)
    folder = plan.layout.sweep("t")
    old, ledger = begin(plan, MemoryExecutor(slots=2))
    requests.ask(folder, requests.Wish.CANCEL, list(plan.graph.paths))
    append = ledger.append

    def overtaken(event: str, **fields: object) -> None:
        begin_term(folder, takeover=True)
        append(event, **fields)

    monkeypatch.setattr(ledger, "append", overtaken)
    with pytest.raises(OwnedError):
        old.step()
    assert len(requests.pending(folder)) == 1, "its event came after its successor's first and counts for nothing"


def test_a_job_whose_stages_left_the_plan_is_watched_until_it_ends(tmp_path: Path) -> None:
    now = [0.0]
    executor = MemoryExecutor(slots=2, seconds=10.0, clock=lambda: now[0])
    axes = {"upstream": ["none"], "domain": ["math"], "seed": [7]}
    drive(begin(planned(tmp_path, name="before", axes=axes), MemoryExecutor())[0])  # the corpora are there
    first, ledger = begin(planned(tmp_path), executor)
    first.step()
    ledger.close()
    smaller = planned(tmp_path, axes=axes)
    assert first._jobs and not {k for job in first._jobs for k in job.stages} & set(smaller.graph.nodes)
    second, _ = begin(smaller, executor)
    assert executor.running(), "what runs is not this plan's to cancel"
    assert second.slots == 2, "jobs of an older term have slots too"
    now[0] = 20.0
    second.step()
    state = fold(read_events(smaller.layout.sweep("t")))
    assert all(len(s.ended) == len(s.tickets) for s in state.submissions.values() if s.name.startswith("t-t1-"))


def test_a_sweep_that_leaves_wants_nothing_of_others_any_more(tmp_path: Path) -> None:
    one, two = planned(tmp_path, name="one"), planned(tmp_path, name="two")
    executor = MemoryExecutor(slots=4, seconds=1e6)
    first, _ = begin(one, executor)
    second, _ = begin(two, executor)
    first.step()
    second.step()
    followed = [two.layout.stage(two.graph.nodes[k].spec.kind, k) for k in second._following]
    assert followed and all(claims.interested(stage) == ["two"] for stage in followed)
    second.unfollow()
    assert not any(claims.interested(stage) for stage in followed)


def test_a_sweep_that_was_killed_or_paused_does_not_keep_jobs_that_nobody_else_wants(tmp_path: Path) -> None:
    one, two = planned(tmp_path, name="one"), planned(tmp_path, name="two")
    executor = MemoryExecutor(slots=4, seconds=1e6)
    first, _ = begin(one, executor)
    second, ledger = begin(two, executor)
    first.step()
    second.step()
    assert second._following
    requests.ask(one.layout.sweep("one"), requests.Wish.CANCEL, list(one.graph.paths))
    first.step()
    assert executor.running(), "the other sweep lives, and wants them"
    ledger.close()  # without a word to those that it follows
    first._cancel_unwanted()
    first.step()
    assert not executor.running() and first.finished


def test_a_cluster_that_does_not_answer_keeps_others_claims_standing(tmp_path: Path) -> None:
    one, two = planned(tmp_path, name="one"), planned(tmp_path, name="two")
    first, ledger = begin(one, MemoryExecutor(slots=4, seconds=1e6))
    first.step()
    ledger.close()

    class Silent(MemoryExecutor):
        def find(self, name: str) -> list[JobHandle]:
            raise InDoubtError("no answer")

    second, _ = begin(two, Silent(slots=4))
    second.step()
    assert {k for job in first._jobs for k in job.stages} <= set(second._following)


@pytest.mark.parametrize("accepted", [True, False])
def test_a_submission_in_doubt_holds_its_stages_until_it_is_known(tmp_path: Path, accepted: bool) -> None:
    """The cluster gives sbatch no answer and says nothing for a while; the controller goes on looking."""
    silent = [True]

    class Silent(MemoryExecutor):
        def submit(self, request: JobRequest) -> list[JobHandle]:
            if accepted or not silent[0]:
                super().submit(request)
            if silent[0]:
                raise EnvironmentError_("no answer")
            return super().find(request.name)

        def find(self, name: str) -> list[JobHandle]:
            if silent[0]:
                raise InDoubtError("no answer")
            return super().find(name)

    plan, executor = planned(tmp_path), Silent(slots=2)
    notices: list[Notice] = []
    reconciler, ledger = begin(plan, executor, notices)
    for _ in range(3):
        reconciler.step()
    assert executor.submissions == int(accepted) and not reconciler.finished
    assert [n.kind for n in notices].count("doubt") == 1, "a person is told once"
    if accepted:  # and a successor that finds the cluster still silent is in the same doubt
        ledger.close()
        reconciler, _ = begin(plan, executor, notices)
        reconciler.step()
    silent[0] = False
    drive(reconciler)
    for key, node in plan.graph.nodes.items():
        assert len(list(plan.layout.stage(node.spec.kind, key).attempts.iterdir())) == 1, node.label


def test_what_is_cancelled_while_its_submission_is_in_doubt_is_stopped_once_it_is_found(tmp_path: Path) -> None:
    silent = [True]

    class Silent(MemoryExecutor):
        def submit(self, request: JobRequest) -> list[JobHandle]:
            super().submit(request)
            raise EnvironmentError_("no answer")

        def find(self, name: str) -> list[JobHandle]:
            if silent[0]:
                raise InDoubtError("no answer")
            return super().find(name)

    plan, executor = planned(tmp_path), Silent(slots=2, seconds=1e6)
    reconciler, _ = begin(plan, executor)
    reconciler.step()
    requests.ask(plan.layout.sweep("t"), requests.Wish.CANCEL, list(plan.graph.paths))
    reconciler.step()
    assert executor.running() and reconciler.leaving, "the controller stays: nobody else could stop these jobs"
    silent[0] = False
    reconciler.step()
    assert not executor.running()
    reconciler.step()
    assert reconciler.finished and not reconciler.leaving


def test_a_state_that_stays_unknown_is_shown_once_and_ends_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["state NEW_WORD, which this release does not know"]

    class Strange(MemoryExecutor):
        def poll(self, handles: Sequence[JobHandle]) -> list[JobReport]:
            return [JobReport(handle=h, state=JobState.UNKNOWN, detail=words[0]) for h in handles]

    notices: list[Notice] = []
    reconciler, _ = begin(planned(tmp_path), Strange(slots=2, seconds=1e6), notices)
    for _ in range(3):
        reconciler.step()
    assert not [n for n in notices if n.kind == "waits"], "not in the first seconds"
    monkeypatch.setattr("orchestrator.reconciler.UNKNOWN_S", 0.0)
    for detail in (words[0], "squeue gave no answer; asked again in 3 s", "squeue gave no answer; asked again in 9 s"):
        words[0] = detail
        reconciler.step()
    said = [n.text for n in notices if n.kind == "waits"]
    assert len(said) == 2 and "NEW_WORD" in said[0] and "squeue gave no answer" in said[1]
    assert not [n for n in notices if n.kind in ("lost", "failed")]
