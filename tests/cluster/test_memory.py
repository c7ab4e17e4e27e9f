"""The fake: simulated time, injected failures, and records that the rest of the house can read."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from cluster.executors import memory
from cluster.executors.memory import DIVERGED, KILLED, MemoryExecutor, Phase
from cluster.job import JobHandle, JobRequest, JobState
from sweeps.errors import EnvironmentError_
from sweeps.language.stage import Input, StageSpec, Ticket, TicketStage
from sweeps.store import claims, files
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.records import Parent, checkpoints, damage_of_result, read_parent, read_result, stage_rows
from tests.cluster.jobs import request
from tests.workloads.tickets import anything, make_ticket, spec, stage_folder, write_ticket

TRUNK = {"end_tokens": 40_000, "decay_from": None, "horizon_tokens": None}
BRANCH = {"end_tokens": 50_000, "decay_from": 40_000, "horizon_tokens": None}
UPSTREAM = {"end_tokens": 9_000, "decay_from": None, "horizon_tokens": None}


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def training(kind: str, segment: dict[str, object], inputs: tuple[Input, ...] = ()) -> StageSpec:
    """A stage that trains."""
    return StageSpec(kind=kind, revisions={}, inputs=inputs, sections={
        "segment": anything(**segment), "validation": anything(every_tokens=10_000), "seed": anything(seed=1),
    })


def as_input(role: str, stage: StageSpec) -> Input:
    """A stage as an input of another."""
    return Input(role=role, kind=stage.kind, fingerprint=stage.fingerprint)


def test_jobs_last_as_long_as_they_are_told(tmp_path: Path) -> None:
    clock = Clock()
    executor = MemoryExecutor(2, seconds=5, clock=clock)
    handles = executor.submit(request(tmp_path, [[spec()]]))
    clock.now = 4.9
    assert executor.poll(handles)[0].state is JobState.RUNNING
    assert executor.slots_free() == 1
    clock.now = 5.0
    assert executor.poll(handles)[0].state is JobState.ENDED
    assert executor.slots_free() == 2


def test_a_lost_answer_leaves_jobs_that_are_found_by_name(tmp_path: Path) -> None:
    executor = MemoryExecutor(2, lose_answer=lambda name: name == "batch-1")
    with pytest.raises(EnvironmentError_, match="no answer"):
        executor.submit(request(tmp_path, [[spec()], [spec(salt=1)]]))
    assert [h.index for h in executor.find("batch-1")] == [0, 1]
    assert [r.detail for r in executor.poll(executor.find("batch-1"))] == ["exit 0", "exit 0"]


@pytest.mark.parametrize(("answer", "detail", "status"), [
    ("", "exit 0", "done"), (DIVERGED, "exit 0", DIVERGED), (KILLED, "killed by signal 9", None),
    ("OutOfMemoryError", "exit 1", None),
])
def test_injected_ends(tmp_path: Path, answer: str, detail: str, status: str | None) -> None:
    executor = MemoryExecutor(1, fail=lambda stage, attempt: answer if attempt == 1 else "")
    handles = executor.submit(request(tmp_path, [[spec()]]))
    assert executor.poll(handles)[0].detail == detail
    folder = stage_folder(tmp_path, spec())
    result = read_result(folder)
    assert (result.status if result else None) == status
    assert folder.attempt(1).failure.exists() == (answer == "OutOfMemoryError")
    executor.poll(executor.submit(request(tmp_path, [[spec()]], "batch-2")))
    assert read_result(folder) is not None


def test_it_refuses_what_a_real_job_refuses(tmp_path: Path) -> None:
    stage, dependent = spec(), spec(salt=1, inputs=[spec(salt=99)])
    executor = MemoryExecutor(1)
    wanted = request(tmp_path, [[stage, dependent]])
    claims.take(stage_folder(tmp_path, stage), sweep="b", term=1, submission="other", after=1)
    executor.poll(executor.submit(wanted))
    assert not stage_folder(tmp_path, stage).attempts.exists()
    assert not stage_folder(tmp_path, dependent).attempts.exists()


def test_rows_and_scores_are_shaped_like_real_ones(tmp_path: Path) -> None:
    upstream = training("prepretrain", UPSTREAM)
    trunk = training("pretrain", TRUNK, (as_input("body", upstream),))
    branch = training("pretrain", BRANCH, (as_input("body", upstream), as_input("trunk", trunk)))
    final = StageSpec(
        kind="evaluate", revisions={}, inputs=(as_input("model", branch), as_input("corpus:web", branch)),
        sections={f"task.{t}": anything() for t in ("domain_loss", "copying", "upstream_gate")},
    )
    executor = MemoryExecutor(1)
    executor.poll(executor.submit(request(tmp_path, [[upstream, trunk, branch, final]])))
    layout = Layout(tmp_path)
    rows = {s.kind + str(i): stage_rows(layout, stage_folder(tmp_path, s))
            for i, s in enumerate((upstream, trunk, branch))}
    assert {r.kind for r in rows["prepretrain0"]} == {"train"}
    assert [(r.tokens, r.kind) for r in rows["pretrain1"]] == [(k * 10_000, "validation") for k in range(1, 5)]
    assert rows["pretrain2"][:4] == rows["pretrain1"]
    assert [(r.tokens, r.kind) for r in rows["pretrain2"][4:]] == [(50_000, "end")]
    losses = [r.values["loss"] for r in rows["pretrain2"]]
    assert losses == sorted(losses, reverse=True)
    result = read_result(stage_folder(tmp_path, final))
    assert result is not None
    assert {"domain_loss.web.loss", "copying.accuracy", "upstream_gate.learned"} <= set(result.scores)
    assert all(math.isfinite(v) for v in result.scores.values())


def test_the_same_stage_gives_the_same_records_also_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = training("pretrain", TRUNK)
    texts = []
    for name in ("a", "b", "apart"):
        if name == "apart":
            monkeypatch.setattr(memory, "APART_BYTES", 0)
        executor = MemoryExecutor(1)
        [report] = executor.poll(executor.submit(request(tmp_path / name, [[trunk]])))
        assert (report.state, report.detail) == (JobState.ENDED, "exit 0")
        texts.append(stage_folder(tmp_path / name, trunk).attempt(1).metrics.read_bytes())
    assert texts[0] == texts[1] == texts[2]
    here, apart = (files.read_json(stage_folder(tmp_path / n, trunk).attempt(1).execution) for n in ("a", "apart"))
    assert here["pid"] == os.getpid() != apart["pid"]


def test_a_trunk_point_continues_the_one_before_it(tmp_path: Path) -> None:
    early, late = training("pretrain", {**TRUNK, "end_tokens": 20_000}), training("pretrain", TRUNK)
    executor = MemoryExecutor(1)
    executor.poll(executor.submit(request(tmp_path, [[early]])))
    ticket = make_ticket(tmp_path, [late], submission="two")
    ticket = Ticket(**{**ticket.model_dump(), "stages": (
        TicketStage(spec=late, claim=1, continues=(as_input("", early),)),)})
    executor.poll(executor.submit(JobRequest(name="two", tickets=(str(write_ticket(ticket)),), folder=str(tmp_path))))
    rows = stage_rows(Layout(tmp_path), stage_folder(tmp_path, late))
    assert [r.tokens for r in rows] == [10_000, 20_000, 30_000, 40_000]


def by_hand(root: Path) -> tuple[MemoryExecutor, JobHandle, StageFolder]:
    """A job that trains, moved by nothing but `advance`."""
    stage = training("pretrain", TRUNK)
    executor = MemoryExecutor(1, seconds=math.inf, saves=True)
    return executor, executor.submit(request(root, [[stage]]))[0], stage_folder(root, stage)


def test_a_job_moved_by_hand_goes_phase_by_phase(tmp_path: Path) -> None:
    executor, job, folder = by_hand(tmp_path)
    assert not folder.attempts.exists() and executor.running() == [job]
    assert executor.advance(job) is Phase.STARTED and folder.attempt(1).path.exists()
    assert executor.advance(job) is Phase.HALF
    assert [c.tokens for c in checkpoints(folder)] == [20_000]
    assert executor.advance(job) is Phase.WRITTEN and read_result(folder) is None
    assert executor.poll([job])[0].state is JobState.RUNNING
    assert executor.advance(job) is Phase.COMMITTED and damage_of_result(folder) == ""
    assert executor.advance(job) is None
    assert executor.poll([job])[0].detail == "exit 0" and executor.running() == []


def test_a_requeued_job_continues_the_checkpoint_and_its_former_process_cannot_commit_a_second_time(
    tmp_path: Path
) -> None:
    executor, job, folder = by_hand(tmp_path)
    for _ in (Phase.STARTED, Phase.HALF):
        executor.advance(job)
    former = executor.requeue(job)
    assert [executor.advance(job) for _ in range(4)] == [Phase.STARTED, Phase.HALF, Phase.WRITTEN, Phase.COMMITTED]
    committed = folder.result.read_bytes()
    assert [former.advance() for _ in range(3)] == [Phase.WRITTEN, Phase.REFUSED, None]
    assert folder.result.read_bytes() == committed and damage_of_result(folder) == ""
    assert read_parent(folder.attempt(2)) == Parent(kind="pretrain", fingerprint=folder.fingerprint, attempt=1,
                                                    tokens=20_000)
    assert [r.tokens for r in stage_rows(Layout(tmp_path), folder)] == [10_000, 20_000, 30_000, 40_000]


def test_a_lost_job_has_ended_though_its_process_goes_on_until_it_is_killed(tmp_path: Path) -> None:
    executor, job, folder = by_hand(tmp_path)
    executor.advance(job)
    process = executor.lose(job, "NODE_FAIL")
    assert executor.poll([job])[0].detail == "NODE_FAIL" and executor.slots_free() == 1
    assert process.advance() is Phase.HALF
    process.kill()
    assert process.advance() is None and process.detail == "killed by signal 9"
    assert read_result(folder) is None


def test_a_job_whose_claim_was_superseded_leaves_without_writing(tmp_path: Path) -> None:
    executor, job, folder = by_hand(tmp_path)
    claims.take(folder, sweep="b", term=1, submission=job.submission, after=1)
    assert executor.advance(job) is None
    assert executor.poll([job])[0].detail == "exit 0" and not folder.attempts.exists()
