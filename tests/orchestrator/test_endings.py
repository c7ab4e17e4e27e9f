"""A job's end and what follows, through the reconciler, the ledger and a new reign, on the memory executor."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from cluster.executors.memory import MemoryExecutor, Phase
from cluster.job import JobHandle, JobReport, JobRequest
from orchestrator.board import Status
from orchestrator.endings import tail
from orchestrator.plan import Planned
from orchestrator.progress import Progress
from orchestrator.reconciler import Notice, Reconciler
from orchestrator.reporting import write_report
from orchestrator.session import record
from sweeps.errors import EnvironmentError_, PausedError
from sweeps.language.stage import StageSpec, Ticket
from sweeps.store import files, requests
from sweeps.store.ledger import Event, begin_term, fold, read_events
from sweeps.store.micro_batch import note
from sweeps.store.records import checkpoints, open_attempt
from tests.orchestrator.plans import planned
from tests.orchestrator.test_reconciler import begin, drive
from tests.orchestrator.verb_stores import answer, called, node, run

ONE = {"upstream": ["none"], "domain": ["web"], "seed": [0]}
UNBROKEN: dict[str, Any] = {"cluster": "memory", "policy": {"breaker": None}}
"""For sweeps in which many stages of a kind fail alike."""


def events(plan: Planned, *kinds: str) -> list[Event]:
    return [e for e in read_events(plan.layout.sweep("t")) if e["event"] in kinds]


def only(kind: str, error: str, attempts: int = 99) -> Any:
    """Fail the stages of a kind in their first attempts."""
    return lambda spec, attempt: error if spec.kind == kind and attempt <= attempts else ""


class Cluster(MemoryExecutor):
    """Remembers requests, and says how jobs end and where they ran."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"slots": 2, "seconds": 1e6, **options})
        self.requests: list[JobRequest] = []
        self.node = ""

    def submit(self, request: JobRequest) -> list[JobHandle]:
        self.requests.append(request)
        return super().submit(request)

    def poll(self, handles: Any) -> list[JobReport]:
        where = {"node": self.node, "restarted_on": self.node}
        return [r.model_copy(update=where) for r in super().poll(handles)]

    def end(self, handle: JobHandle, detail: str) -> None:
        self.advance(handle)
        self.lose(handle, detail).kill()


def start(tmp_path: Path, **options: Any) -> tuple[Planned, Reconciler, Cluster, list[Notice]]:
    """Return a sweep of one trial whose first job has just been submitted."""
    plan, cluster, notices = planned(tmp_path, axes=ONE, **options), Cluster(slots=1), list[Notice]()
    reconciler, _ = begin(plan, cluster, notices)
    reconciler.step()
    return plan, reconciler, cluster, notices


def test_a_preempted_stage_is_told_and_recorded_with_class_and_action(tmp_path: Path) -> None:
    plan, reconciler, cluster, notices = start(tmp_path)
    cluster.end(cluster.running()[0], "PREEMPTED")
    reconciler.step()
    event, = events(plan, "interrupted", "failed")
    assert (event["class"], event["action"], event["detail"]) == ("preempted", "resume", "PREEMPTED")
    told = next(n for n in notices if n.kind == "lost").text
    assert "had to make room: PREEMPTED; tried again (1 of 3" in told and event["text"] in told
    assert not fold(read_events(plan.layout.sweep("t"))).failures, "a stage that is tried again has not failed"
    assert cluster.running(), "and is submitted in the same pass"


def test_what_a_person_cancelled_on_the_cluster_is_not_run_again_before_retry(tmp_path: Path) -> None:
    plan, reconciler, cluster, _ = start(tmp_path)
    cluster.end(cluster.running()[0], "CANCELLED by 0")
    reconciler.step()
    progress = Progress(plan.file.trials, reconciler.board)
    progress.update()
    assert reconciler.finished and cluster.submissions == 1
    assert "cancelled on the cluster by root, seen 20" in next(iter(progress.ended.values())).reason
    reconciler.ledger.close()

    again, ledger = begin(plan, cluster)
    assert again.finished and cluster.submissions == 1, "nor by running the command again"
    reason = next(iter(Progress(plan.file.trials, again.board).ended.values())).reason
    assert "by root" in reason
    cluster.seconds = 0.0
    requests.ask(plan.layout.sweep("t"), requests.Wish.RETRY, list(plan.graph.paths))
    again.step()
    drive(again)
    assert set(again.board.status.values()) == {Status.DONE}
    assert not fold(read_events(plan.layout.sweep("t"))).cancelled_how
    ledger.close()


@pytest.mark.parametrize("word", ["NODE_FAIL", "CANCELLED by 0", "FAILED, exit 1", "PREEMPTED"])
def test_a_committed_result_outranks_whatever_the_cluster_says_of_the_job(tmp_path: Path, word: str) -> None:
    plan, reconciler, cluster, _ = start(tmp_path, run={"cluster": "memory", "pack": "1 s"})
    handle, = cluster.running()
    while cluster.advance(handle) is not Phase.COMMITTED:
        pass
    cluster.lose(handle, word).kill()
    reconciler.step()
    assert list(reconciler.board.status.values()).count(Status.DONE) == 1
    assert not events(plan, "interrupted", "failed", "cancelled") and len(events(plan, "done")) == 1


def test_what_this_sweep_asked_to_leave_is_nobodys_cancellation_for_the_next_reign_too(tmp_path: Path) -> None:
    plan, reconciler, cluster, _ = start(tmp_path)
    reconciler._ask_to_leave(reconciler._jobs[:1])
    cluster._jobs[reconciler._jobs[0].handle.submission, 0].detail = "CANCELLED by 0"
    ledger, state = begin_term(plan.layout.sweep("t"), takeover=True)  # this controller dies before it sees the end
    cluster.seconds = 0.0
    successor = Reconciler(plan, cluster, ledger, state, lambda notice: None)
    drive(successor)
    assert set(successor.board.status.values()) == {Status.DONE}


def test_what_an_interruption_loses_is_recorded_told_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, reconciler, cluster, notices = start(tmp_path)
    record(plan, plan.layout.sweep("t"))
    handle = cluster.running()[0]
    while (attempt := cluster.process(handle).attempt) is None or attempt.stage.kind != "pretrain":
        cluster.advance(handle)
    (attempt.checkpoint_folder(1) / "state").write_text("x")
    attempt.commit_checkpoint(1)
    attempt.row(tokens=10**9, kind="train", values={"loss": 1.0})
    cluster.lose(handle, "PREEMPTED").kill()
    reconciler.step()
    event, = events(plan, "interrupted")
    assert (event["saved_tokens"], event["lost_tokens"]) == (1, 10**9 - 1)
    told = next(n for n in notices if n.kind == "lost").text
    assert "goes on from its last checkpoint (at 1 tokens; 999,999,999 are trained again)" in told
    _, text, _ = called(capsys, "status", "--root", tmp_path)
    assert "999,999,999 tokens trained twice in 1 interruption, at most 999,999,999 in one" in text


def test_a_restart_by_the_cluster_itself_is_told_with_its_cause_and_what_it_cost(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, cluster, notices = planned(tmp_path, axes=ONE), Cluster(slots=1, saves=True), list[Notice]()
    record(plan, plan.layout.sweep("t"))
    reconciler, ledger = begin(plan, cluster, notices)
    while True:
        reconciler.step()
        handle, = cluster.running()
        phase, attempt = cluster.advance(handle), cluster.process(handle).attempt
        if phase is Phase.HALF and attempt is not None and attempt.stage.kind == "pretrain":
            break
    saved = max(c.tokens for c in checkpoints(attempt.stage))
    attempt.row(tokens=saved + 777, kind="train", values={"loss": 1.0})
    began = attempt.folder.metrics.stat().st_mtime - 1800
    os.utime(attempt.folder.execution, (began, began))
    cluster.requeue(handle).kill()
    for _ in range(3):
        reconciler.step()
    event, = events(plan, "restarted")
    assert (event["class"], event["detail"], event["restarts"]) == ("node", "NODE_FAIL", 1)
    told, = (n.text for n in notices if n.kind == "restarted")
    assert told.endswith(": the cluster itself put its job back into the queue: its node failed: NODE_FAIL")
    ledger.close()
    reconciler, _ = begin(plan, cluster, notices)
    while not reconciler.finished:
        for handle in cluster.running():
            cluster.advance(handle)
        reconciler.step()
    assert len(events(plan, "restarted")) == 1, "the next reign knows it"
    assert not events(plan, "interrupted", "failed"), "and the policy is not asked"
    found = answer(capsys, "status", "--root", tmp_path)["sweeps"][0]
    assert found["lost_tokens"] == [777] == found["restarts"]["lost_tokens"]
    assert found["restarts"]["gpu_hours"] == pytest.approx(0.5, abs=0.01) and found["restarts"]["restarts"] == 1
    _, text, _ = called(capsys, "status", "--root", tmp_path)
    assert "restart 1 of jobs by the cluster itself (1 node), after 0.5 GPU-hours" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    said = answer(capsys, "why", attempt.stage.fingerprint, "--root", tmp_path)["stage"]["details"]
    assert any("put its job back into the queue, seen 20" in line and "node (NODE_FAIL)" in line for line in said)


def test_a_job_that_the_cluster_starts_again_and_again_in_vain_is_given_up(tmp_path: Path) -> None:
    plan, reconciler, cluster, notices = start(tmp_path)
    job, = reconciler._jobs
    key, handle = job.stages[0], job.handle
    for restarts in (1, 2, 3):
        assert cluster.running() == [handle] and not job.asked
        cluster.advance(handle)
        cluster.requeue(handle).kill()
        reconciler.step()
        assert events(plan, "restarted")[-1]["restarts"] == restarts
    assert job.asked and "is asked to leave" in notices[-1].text
    reconciler.step()
    event, = events(plan, "interrupted", "failed")
    assert (event["fingerprint"], event["class"], event["action"]) == (key, "node", "give up")
    assert "its node failed: NODE_FAIL, 3 times by the cluster itself; 3 times without coming" in event["text"]
    assert reconciler.board.status[key] is Status.FAILED


def test_a_job_that_comes_further_is_never_given_up_however_often_the_cluster_starts_it_again(tmp_path: Path) -> None:
    plan, cluster = planned(tmp_path, axes=ONE), Cluster(slots=1)
    reconciler, _ = begin(plan, cluster)
    reconciler.step()
    for saved in range(1, 7):
        handle, = cluster.running()
        while (attempt := cluster.process(handle).attempt) is None or attempt.stage.kind != "pretrain":
            cluster.advance(handle)
            reconciler.step()
            handle, = cluster.running()
        (attempt.checkpoint_folder(saved) / "state").write_text("x")
        attempt.commit_checkpoint(saved)
        cluster.requeue(handle).kill()
        reconciler.step()
    assert len(events(plan, "restarted")) == 6 and not events(plan, "interrupted", "failed", "asked")


def test_a_node_whose_jobs_the_cluster_itself_starts_again_elsewhere_gets_no_more_of_them(tmp_path: Path) -> None:
    plan, cluster, notices = planned(tmp_path), Cluster(slots=2), list[Notice]()
    reconciler, _ = begin(plan, cluster, notices)
    reconciler.step()
    cluster.node = "n7"
    for handle in cluster.running():
        cluster.requeue(handle).kill()
    reconciler.step()
    assert reconciler.endings.nodes.excluded == ("n7",) and [n.kind for n in notices].count("excluded") == 1
    reconciler.ledger.close(release=False)
    ledger, state = begin_term(plan.layout.sweep("t"), takeover=True)
    successor = Reconciler(plan, cluster, ledger, state, notices.append)
    assert successor.endings.nodes.excluded == ("n7",), "whoever takes over knows it too"
    ledger.close()


def test_a_cancelled_job_takes_the_rest_of_its_ticket_with_it_and_leaves_others_alone(tmp_path: Path) -> None:
    axes = {"upstream": ["none"], "domain": ["web", "math"], "seed": [0]}
    plan, cluster = planned(tmp_path, axes=axes), Cluster(slots=2)
    reconciler, _ = begin(plan, cluster)
    reconciler.step()
    job = reconciler._jobs[0]
    cluster.end(job.handle, "CANCELLED by 0")
    cluster.seconds = 0.0
    for key in [k for k in cluster._jobs if k in cluster._live]:
        cluster._jobs[key].ends_at = 0.0
    drive(reconciler)
    cancelled = fold(read_events(plan.layout.sweep("t"))).cancelled
    assert cancelled == set(reconciler.board.users(job.stages))
    assert len(events(plan, "cancelled")) == 1
    assert all(reconciler.board.status[k] is Status.CANCELLED for k in job.stages)


def test_a_time_limit_counts_only_against_a_stage_that_had_the_whole_job(tmp_path: Path) -> None:
    plan, reconciler, cluster, _ = start(tmp_path)
    handle = cluster.running()[0]
    done = reconciler._jobs[0].stages[0]
    while plan.layout.stage(plan.graph.nodes[done].spec.kind, done).result.exists() is False:
        cluster.advance(handle)
    cluster.end(handle, "TIMEOUT")
    reconciler.step()
    assert [(e["class"], e["action"]) for e in events(plan, "interrupted", "failed")] == [("timeout", "resume")]
    cluster.end(cluster.running()[0], "TIMEOUT")
    reconciler.step()
    assert [(e["class"], e["action"]) for e in events(plan, "failed")] == [("timeout", "give up")]


def test_half_the_micro_batch_is_tried_recorded_and_known_to_the_next_reign(tmp_path: Path) -> None:
    plan = planned(tmp_path, axes=ONE)
    cluster = Cluster(slots=1, seconds=0.0, fail=only("pretrain", "OutOfMemoryError", attempts=1))
    reconciler, ledger = begin(plan, cluster)
    drive(reconciler)
    assert set(reconciler.board.status.values()) == {Status.DONE}
    halved = {e["fingerprint"]: e["micro_batch"] for e in events(plan, "interrupted")}
    assert halved and {plan.graph.nodes[k].spec.kind for k in halved} == {"pretrain"}
    share = {k: plan.graph.nodes[k].spec.sections["optim"].values["batch_sequences"] for k in halved}
    assert halved == {k: v // 2 for k, v in share.items()}
    tickets = [Ticket.model_validate_json(Path(t).read_text()) for r in cluster.requests for t in r.tickets]
    for ticket in tickets:
        micro = {halved.get(s.spec.fingerprint) for s in ticket.stages}
        assert ticket.execution.micro_batch in (None, *micro)
        assert ticket.execution.micro_batch is None or micro == {ticket.execution.micro_batch}, "one way a ticket"
    assert {t.execution.micro_batch for t in tickets} == {None, *halved.values()}
    ledger.close()
    again, ledger = begin(plan, cluster)
    assert {k: again.endings.execution(k).micro_batch for k in halved} == halved
    ledger.close()
    smaller = planned(tmp_path, axes=ONE, run={"cluster": "memory", "micro_batch": 1})
    third, _ = begin(smaller, cluster)
    assert {third.endings.execution(k).micro_batch for k in halved} == {1}, "a smaller one in the sweep file counts"


def test_a_searched_micro_batch_is_halved_from_what_was_found(tmp_path: Path) -> None:
    plan = planned(tmp_path, axes=ONE, run={"cluster": "memory", "micro_batch": "auto"})
    reconciler, _ = begin(plan, MemoryExecutor())
    node = next(n for n in plan.graph.nodes.values() if n.spec.kind == "pretrain")
    assert reconciler.endings._half_batch(node) is None, "its search has found no room for one sequence"
    attempt = open_attempt(plan.layout.stage("pretrain", node.spec.fingerprint), {})
    note(attempt.folder, 2, "searched")
    attempt.close()
    assert reconciler.endings._half_batch(node) == 1


def test_a_gpu_that_has_no_room_for_one_sequence_is_given_up_with_advice(tmp_path: Path) -> None:
    plan = planned(tmp_path, axes=ONE, run=UNBROKEN)
    reconciler, _ = begin(plan, MemoryExecutor(slots=1, fail=only("pretrain", "OutOfMemoryError")))
    drive(reconciler)
    key = next(e["fingerprint"] for e in events(plan, "failed"))
    share = plan.graph.nodes[key].spec.sections["optim"].values["batch_sequences"]
    halved = [e["micro_batch"] for e in events(plan, "interrupted") if e["fingerprint"] == key]
    assert share == 4 and halved == [2, 1]
    assert "ran out of GPU memory" in reconciler.board.reasons[key]
    assert "run.micro_batch" in reconciler.board.reasons[key]


def test_no_more_jobs_go_to_a_node_on_which_two_stages_failed(tmp_path: Path) -> None:
    plan, cluster, notices = planned(tmp_path), Cluster(slots=2), list[Notice]()
    reconciler, _ = begin(plan, cluster, notices)
    reconciler.step()
    assert cluster.requests[-1].exclude == ()
    cluster.node = "n7"
    for handle in cluster.running():
        cluster.end(handle, "NODE_FAIL")
    reconciler.step()
    assert cluster.requests[-1].exclude == ("n7",)
    assert [n.text for n in notices if n.kind == "excluded"] == [
        "node n7 gets no more jobs: 2 stages failed there; run.policy.exclude_node_after changes when"]
    reconciler.ledger.close(release=False)
    ledger, state = begin_term(plan.layout.sweep("t"), takeover=True)
    successor = Reconciler(plan, Cluster(slots=2), ledger, state, notices.append)
    assert successor.endings.nodes.excluded == ("n7",), "whoever takes over knows it too"
    ledger.close()
    fresh, _ = begin(plan, Cluster(slots=2))
    assert fresh.endings.nodes.excluded == (), "a person who runs the command again may have mended it"


def test_a_refused_submission_ends_the_sweep_with_its_class_and_is_no_failure_of_its_stages(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Refusing(Cluster):
        def submit(self, request: JobRequest) -> list[JobHandle]:
            self.requests.append(request)
            raise EnvironmentError_("s: Slurm refused it: invalid partition specified: nowhere")

    plan, cluster = planned(tmp_path, axes=ONE), Refusing()
    record(plan, plan.layout.sweep("t"))
    reconciler, ledger = begin(plan, cluster)
    with pytest.raises(EnvironmentError_, match=r"partition specified: nowhere\. The sweep ends; once .* profile is"):
        reconciler.step()
    ledger.close()
    refused, = events(plan, "refused")
    assert (refused["class"], refused["action"]) == ("code", "pause")
    assert refused["evidence"][0] == "s: Slurm refused it: invalid partition specified: nowhere"
    tickets = [Ticket.model_validate_json(Path(t).read_text()) for r in cluster.requests for t in r.tickets]
    assert set(refused["stages"]) == {s.spec.fingerprint for t in tickets for s in t.stages}
    assert not events(plan, "failed", "interrupted")
    code, told, _ = called(capsys, "why", refused["stages"][0], "--root", str(tmp_path))
    assert code == 0 and "its job was refused: s: Slurm refused it: invalid partition" in told
    mended, _ = begin(plan, MemoryExecutor())
    drive(mended)
    assert set(mended.board.status.values()) == {Status.DONE}, "the same command goes on"
    assert "refused" not in called(capsys, "why", refused["stages"][0], "--root", str(tmp_path))[1]


def test_the_first_stages_that_die_alike_pause_the_sweep_and_it_goes_on_once_mended(tmp_path: Path) -> None:
    broken = [True]

    def fail(spec: StageSpec, attempt: int) -> str:
        return "ImportError" if broken[0] else ""

    plan = planned(tmp_path, run={"cluster": "memory", "pack": "1 s"})
    executor = MemoryExecutor(slots=2, fail=fail)
    reconciler, ledger = begin(plan, executor)
    with pytest.raises(PausedError, match="ImportError: simulated") as paused:
        drive(reconciler)
    assert paused.value.exit_code == 6 and str(paused.value).count("ImportError") == 1
    assert reconciler.board.counts()[Status.WAITING], "the rest was not tried"
    assert all(len(s.ended) == len(s.tickets) for s in fold(read_events(plan.layout.sweep("t"))).submissions.values())
    ledger.close()
    broken[0] = False
    again, _ = begin(plan, executor)
    drive(again)
    assert set(again.board.status.values()) == {Status.DONE}


def test_what_every_cluster_can_do_does_not_hide_that_no_stage_trains(tmp_path: Path) -> None:
    plan = planned(tmp_path, run={"cluster": "memory", "pack": "1 s"})
    fail = lambda spec, attempt: "RuntimeError" if "optim" in spec.sections else ""  # noqa: E731
    reconciler, _ = begin(plan, MemoryExecutor(slots=2, fail=fail))
    with pytest.raises(PausedError, match="stages all raised an error"):
        drive(reconciler)
    done = {plan.graph.nodes[k].spec.kind for k, s in reconciler.board.status.items() if s is Status.DONE}
    assert "tokenizer" in done and not done & {"prepretrain", "pretrain"}
    assert reconciler.board.counts()[Status.FAILED] <= 3 + 1, "those that ran beside the third"


def test_the_sweep_files_policy_is_followed(tmp_path: Path) -> None:
    plan = planned(tmp_path, axes=ONE, run={"cluster": "memory", "policy": {"code": 2}})
    reconciler, _ = begin(plan, MemoryExecutor(slots=1, fail=only("tokenizer", "ValueError", attempts=1)))
    drive(reconciler)
    assert set(reconciler.board.status.values()) == {Status.DONE}
    assert [(e["class"], e["action"]) for e in events(plan, "interrupted")] == [("code", "resume")]


def test_of_several_ranks_reasons_the_one_that_is_not_about_another_rank_counts(tmp_path: Path) -> None:
    plan, reconciler, cluster, _ = start(tmp_path)
    handle = cluster.running()[0]
    cluster.advance(handle)
    attempt = cluster.process(handle).attempt
    assert attempt is not None
    for name, error, message in (("failure.json", "RuntimeError", "Connection reset by peer"),
                                 ("failure.1.json", "MemoryError", "")):
        text = json.dumps({"schema_version": 1, "class": error, "message": message, "traceback": []})
        (attempt.folder.path / name).write_text(text)
    cluster.end(handle, "FAILED, exit 1")
    reconciler.step()
    assert [e["class"] for e in events(plan, "failed")] == ["oom_host"]


def test_of_a_log_only_the_lines_after_the_attempts_own_beginning_count(tmp_path: Path) -> None:
    plan = planned(tmp_path, axes=ONE)
    key, first_node = next(iter(plan.graph.nodes.items()))
    stage = plan.layout.stage(first_node.spec.kind, key)
    files.create(stage.spec, "{}")
    first, second = (open_attempt(stage, {"submission": "s"}) for _ in range(2))
    log = tmp_path / "0.err"
    name = f"{stage.kind}/{key}"
    log.write_text(f"before\n12:00 {name}: attempt 1\nDUE TO PREEMPTION\n12:05 {name}: attempt 2\nlast words\n")
    assert tail(log, stage, second.folder) == ("last words",)
    assert "DUE TO PREEMPTION" in tail(log, stage, first.folder)
    assert tail(tmp_path / "none", stage, first.folder) == () == tail(None, stage, None)
    log.write_bytes(b"x\n" * 1_000_000 + b"\xff end\n")
    assert tail(log, stage, None)[-1] == "\ufffd end" and len(tail(log, stage, None)) <= 60


def test_status_why_and_report_say_class_and_action_in_words(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(tmp_path, run=UNBROKEN)
    run(plan, lambda spec, attempt: "MemoryError" if spec.kind == "prepretrain" else "")
    key = node(plan, "prepretrain", "30-45", "s0").spec.fingerprint
    failed = answer(capsys, "status", "--root", tmp_path)["sweeps"][0]["failed"]
    said = next(f for f in failed if f["fingerprint"] == key)
    assert (said["class"], said["action"]) == ("oom_host", "give up")
    assert "ran out of memory: MemoryError" in said["text"]
    _, text, _ = called(capsys, "status", "--root", tmp_path)
    assert "oom_host" in text and all(len(line) <= 80 for line in text.splitlines())
    told = answer(capsys, "why", key, "--root", tmp_path)["stage"]
    assert (told["facts"]["failure"], told["facts"]["action"]) == ("oom_host", "give up")
    assert any("give its job more memory" in line for line in told["details"])
    page, _ = write_report([plan.layout], "t")
    assert "give its job more memory" in page.read_text(encoding="utf-8")


def test_an_interrupted_stage_is_told_as_one_that_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, reconciler, cluster, _ = start(tmp_path)
    handle = cluster.running()[0]
    key = reconciler._jobs[0].stages[0]
    cluster.end(handle, "NODE_FAIL")
    reconciler.executor.slots = 0  # type: ignore[attr-defined]
    reconciler.step()
    reconciler.ledger.close()
    files.replace(plan.layout.sweep("t").plan, plan.file.model_dump_json())
    told = answer(capsys, "why", key, "--root", tmp_path)["stage"]
    assert told["state"] == "interrupted" and "its node failed: NODE_FAIL" in told["reason"]
    assert (told["facts"]["failure"], told["facts"]["action"]) == ("node", "resume")
    assert not answer(capsys, "status", "--root", tmp_path)["sweeps"][0]["failed"]


WORDS = ("PREEMPTED", "NODE_FAIL", "TIMEOUT", "FAILED, exit 9", "killed by signal 11", "exit 0",
         "OUT_OF_MEMORY, signal 125", "gone: neither the queue nor the accounts have it",
         "CANCELLED by 0")


@pytest.mark.parametrize("seed", range(8))
def test_however_jobs_end_the_sweep_comes_to_an_end(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    plan = planned(tmp_path, run={"cluster": "memory", "pack": "1 s", "policy": {"breaker": None}})
    cluster = Cluster(slots=3)
    reconciler, _ = begin(plan, cluster)
    for _ in range(600):
        reconciler.step()
        if reconciler.finished:
            break
        for handle in cluster.running():
            if chance.random() < 0.4:
                cluster.end(handle, chance.choice(WORDS))
            elif chance.random() < 0.5:
                cluster.advance(handle)
    assert reconciler.finished and not cluster.running()
    assert Status.WAITING not in reconciler.board.status.values()
    attempts = [len(list(p.iterdir())) for p in plan.layout.stages.glob("*/*/attempts")]
    assert max(attempts) <= sum((1, 3, 3, 3, 3)) + 1
