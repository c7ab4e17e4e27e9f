"""What is concluded from Slurm's answers, and how seldom it is asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.executors import _slurm_queue as ask
from cluster.executors._slurm_starts import start_note
from cluster.executors.slurm import SlurmExecutor
from cluster.job import JobHandle, JobState
from cluster.launch import leave
from sweeps.store import files
from tests.cluster.slurm.fakes import DISABLED, Clock, Fakes, cluster, queue, wanted

ENDED, PENDING, RUNNING, UNKNOWN = JobState.ENDED, JobState.PENDING, JobState.RUNNING, JobState.UNKNOWN


def submitted(root: Path, clock: Clock, count: int = 1) -> tuple[SlurmExecutor, list[JobHandle]]:
    """An executor with a submission that Slurm calls 12."""
    of = cluster(root, clock)
    handles = of.submit(wanted(root, count))
    clock.sleep(60)
    return of, handles


def states(of: SlurmExecutor, handles: list[JobHandle]) -> list[JobState]:
    """The jobs' states."""
    return [r.state for r in of.poll(handles)]


def told(of: SlurmExecutor, handles: list[JobHandle]) -> list[tuple[int, str]]:
    """What the reports say of Slurm's own restarts."""
    return [(r.restarts, r.restarted) for r in of.poll(handles)]


def note_end(root: Path, index: int, code: int, restart: int = 0) -> None:
    """Leave what a job leaves that ended by itself."""
    note = start_note(root / "jobs" / "batch-1", index, restart)
    files.create(note, "{}")
    leave(note, code=code, detail=f"exit {code}")


class TestCalls:
    """How often Slurm is asked."""

    @pytest.mark.parametrize("count", [1, 500])
    def test_calls_do_not_grow_with_the_number_of_jobs(
            self, fakes: Fakes, clock: Clock, tmp_path: Path, count: int) -> None:
        of, handles = submitted(tmp_path, clock, count)
        fakes.says("squeue", queue(*(f"12_{i} RUNNING" for i in range(count))))
        for _ in range(300):  # a minute
            assert set(states(of, handles)) == {RUNNING}
            assert of.slots_free() == 1000 - count
            clock.sleep(0.2)
        assert len(fakes.calls("squeue")) == 12
        assert fakes.calls("sacct") == []
        assert len(fakes.calls("scontrol")) == 1

    def test_the_ends_of_many_jobs_are_looked_up_in_one_call(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock, 200)
        fakes.says("squeue", queue(*(f"12_{i} FAILED" for i in range(200))))
        fakes.says("sacct", "".join(f"12_{i}|FAILED|2:0\n" for i in range(200)))
        assert {r.detail for r in of.poll(handles)} == {"FAILED, exit 2"}
        assert set(states(of, handles)) == {ENDED}
        assert len(fakes.calls("squeue")) == 1
        assert len(fakes.calls("sacct")) == 1

    def test_jobs_that_are_lacking_cost_one_look_elsewhere_a_queue(
            self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock, 50)
        for _ in range(20):
            assert set(states(of, handles)) == {UNKNOWN}
            clock.sleep(0.2)
        assert len(fakes.calls("sacct")) == 1


class TestNoAnswer:
    """Without an answer nothing is concluded."""

    @pytest.mark.parametrize("action", [
        "exit 1", "echo 'Socket timed out on send/recv operation' >&2; exit 1", "kill -9 $$",
        "printf '12_0|COMPL'", "printf '12_0|COMPLETED|None|.\\n12_1|CANCEL'", "echo 'a banner of the site'",
    ])
    def test_no_answer_is_neither_absence_nor_an_end(
            self, fakes: Fakes, clock: Clock, tmp_path: Path, action: str) -> None:
        of, handles = submitted(tmp_path, clock, 2)
        fakes.does("squeue", action)
        fakes.fails("scontrol", "no")
        for _ in range(10):
            reports = of.poll(handles)
            assert {r.state for r in reports} == {UNKNOWN} and all("squeue" in r.detail for r in reports)
            assert of.slots_free() == 0
            clock.sleep(60)
        fakes.says("squeue", queue("12_0 COMPLETED", "12_1 RUNNING"))
        clock.sleep(120)
        assert states(of, handles) == [ENDED, RUNNING]

    def test_scontrol_answers_where_squeue_does_not(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock, 4)
        fakes.fails("squeue", "no")
        line = "JobId={id} ArrayJobId=12 ArrayTaskId={index} JobName=x UserId=me({uid}) JobState={state} Reason=None"
        rows = [("13", "0", "RUNNING"), ("14", "1", "COMPLETED"), ("12", "2-3%9", "PENDING")]
        text = "\n".join(line.format(id=i, index=x, state=s, uid=os.getuid()) for i, x, s in rows)
        other = line.format(id=99, index=0, state="FAILED", uid=os.getuid() + 1)
        fakes.says("scontrol", f"{other}\n{text}\n")
        assert states(of, handles) == [RUNNING, ENDED, PENDING, PENDING]

    def test_sacct_that_hangs_holds_up_one_poll_and_not_the_next(
            self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock)
        of._clients.timeout_s = 0.3
        fakes.does("sacct", "sleep 1000")
        fakes.says("squeue", queue("12_0 TIMEOUT"))
        assert [r.detail for r in of.poll(handles)] == ["TIMEOUT"]


class TestAbsence:
    """A job that a good answer lacks."""

    def test_one_empty_answer_is_not_absence(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock)
        assert states(of, handles) == [UNKNOWN]
        fakes.says("squeue", queue("12_0 RUNNING"))
        clock.sleep(6)
        assert states(of, handles) == [RUNNING]
        fakes.says("squeue", "")
        for _ in range(2):
            clock.sleep(6)
            assert states(of, handles) == [UNKNOWN], "the clock of its absence began anew"
        clock.sleep(6)
        assert states(of, handles) == [ENDED]

    def test_absence_needs_a_second_program(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock)
        fakes.does("scontrol", 'case "$*" in "show config") echo;; *) exit 1;; esac')
        for _ in range(20):
            clock.sleep(30)
            assert states(of, handles) == [UNKNOWN]

    def test_a_job_just_submitted_need_not_be_in_an_older_queue(
            self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of = cluster(tmp_path, clock)
        handles = of.submit(wanted(tmp_path, 3))
        reports = of.poll(handles)
        assert [(r.state, r.detail) for r in reports] == [(PENDING, "submitted")] * 3
        assert of.slots_free() == 997

    def test_a_jobs_own_word_needs_no_accounts(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock)
        note_end(tmp_path, 0, 3)
        assert [(r.state, r.detail) for r in of.poll(handles)] == [(ENDED, "exit 3")]
        assert fakes.calls("sacct") == []

    def test_a_requeued_jobs_former_word_does_not_end_it(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock)
        note_end(tmp_path, 0, 0)
        fakes.says("squeue", queue("12_0 PENDING", reason="BeginTime"))
        fakes.says("sacct", "12_0|PREEMPTED|0:15\n")
        assert [(r.state, r.detail) for r in of.poll(handles)] == [(PENDING, "PENDING (BeginTime)")]

    def test_a_restart_by_slurm_itself_is_reported_with_how_the_former_start_ended(
            self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock, 3)
        fakes.says("squeue", queue("12_0 PENDING", "12_1 RUNNING", "12_2 RUNNING", restarts=1, reason="BeginTime"))
        fakes.says("sacct", "12_0|PREEMPTED\n12_0|PENDING\n12_1|NODE_FAIL\n12_1|RUNNING\n12_2|RUNNING\n")
        assert told(of, handles) == [(1, "PREEMPTED"), (1, "NODE_FAIL"), (0, "")], "the accounts lag behind the third"
        for _ in range(20):
            told(of, handles)
        assert len(fakes.calls("sacct")) == 1, "one call for all of them, and one a queue"
        clock.sleep(6)
        fakes.says("sacct", "12_2|PREEMPTED\n12_2|RUNNING\n")
        assert told(of, handles)[2] == (1, "PREEMPTED")
        assert [c.split("-j ")[1].split()[0] for c in fakes.calls("sacct")] == ["12"]
        clock.sleep(6)
        fakes.says("squeue", queue("12_0 RUNNING", "12_1 RUNNING", "12_2 RUNNING", restarts=2))
        fakes.says("sacct", "".join(f"12_{i}|{w}\n" for i in range(3) for w in ("PREEMPTED", "REQUEUED", "RUNNING")))
        assert told(of, handles) == [(2, "REQUEUED")] * 3, "the newest one alone: the other was told"

    def test_a_restart_is_reported_without_accounts_too(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock)
        fakes.says("squeue", queue("12_0 RUNNING", restarts=2))
        assert told(of, handles) == [(2, "")]
        clock.sleep(6)
        fakes.fails("squeue", "no")
        line = "JobId=12 ArrayJobId=12 ArrayTaskId=0 UserId=me({uid}) JobState=RUNNING Reason=None Restarts=3"
        fakes.says("scontrol", line.format(uid=os.getuid()))
        assert told(of, handles) == [(3, "")]

    def test_accounts_that_do_not_answer_hold_a_restart_back_for_a_while_only(
            self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock)
        fakes.says("squeue", queue("12_0 RUNNING", restarts=1))
        fakes.fails("sacct", "connection refused")
        seen = []
        for _ in range(3):
            seen.append(told(of, handles))
            clock.sleep(6)
        assert seen == [[(0, "")], [(0, "")], [(1, "")]]

    def test_the_newest_start_counts(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock)
        note_end(tmp_path, 0, 0, restart=0)
        files.create(start_note(tmp_path / "jobs" / "batch-1", 0, 1), "{}")
        fakes.says("squeue", queue("12_0 NODE_FAIL"))
        assert [r.detail for r in of.poll(handles)] == ["NODE_FAIL"], "the second start left no word"

    def test_a_start_that_was_killed_before_it_noted_anything_hides_none_after_it(
            self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock, 12)
        note_end(tmp_path, 1, 0, restart=0)
        note_end(tmp_path, 1, 3, restart=2)
        note_end(tmp_path, 11, 0, restart=7)
        fakes.says("squeue", queue("12_1 FAILED"))
        assert [r.detail for r in of.poll(handles[1:2])] == ["exit 3"], "not that of the first start, or of job 11"

    def test_the_node_from_which_slurm_took_a_job_is_told(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock)
        for restart, node in enumerate(("n1", "n2", "n3")):
            files.create(start_note(tmp_path / "jobs" / "batch-1", 0, restart), files.to_json({"node": node}))
        fakes.says("squeue", queue("12_0 RUNNING", restarts=2))
        fakes.says("sacct", "12_0|PREEMPTED\n12_0|NODE_FAIL\n12_0|RUNNING\n")
        report, = of.poll(handles)
        assert (report.restarted, report.restarted_on) == ("PREEMPTED, NODE_FAIL", "n2")

    def test_accounts_that_lag_behind_end_nothing(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock, 2)
        fakes.says("sacct", "12_0|RUNNING|0:0\n12_[1]|PENDING|0:0\n")
        assert states(of, handles) == [UNKNOWN, UNKNOWN]

    def test_accounts_remember_what_the_daemon_forgot(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock, 4)
        fakes.says("sacct", "12_0|CANCELLED by 1000|0:15\n12_1|OUT_OF_MEMORY|0:125\n12_2|TIMEOUT|0:0\n"
                            "12|CANCELLED by 7|0:0\n")
        assert [r.detail for r in of.poll(handles)] == [
            "CANCELLED by 1000, signal 15", "OUT_OF_MEMORY, signal 125", "TIMEOUT", "CANCELLED by 7"]

    def test_accounts_may_take_a_while_to_say_who_cancelled(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of, handles = submitted(tmp_path, clock, 2)
        fakes.says("squeue", queue("12_0 CANCELLED", "12_1 FAILED"))
        fakes.says("sacct", "12_0|RUNNING|0:0\n", "12_0|CANCELLED by 7|0:15\n")
        assert [r.detail for r in of.poll(handles)] == [
            "CANCELLED; waiting for the accounts", "FAILED; waiting for the accounts"]
        clock.sleep(6)
        assert [(r.state, r.detail) for r in of.poll(handles)] == [
            (ENDED, "CANCELLED by 7, signal 15"), (UNKNOWN, "FAILED; waiting for the accounts")]
        clock.sleep(6)
        assert [(r.state, r.detail) for r in of.poll(handles[1:])] == [(ENDED, "FAILED")]
        assert len(fakes.calls("sacct")) == 3

    def test_accounts_that_contradict_the_daemon_are_asked_again(
            self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        """Seen on a real Slurm: COMPLETED for a moment, of a job that checkpointed and left when it was cancelled."""
        of, handles = submitted(tmp_path, clock, 1)
        fakes.says("squeue", queue("12_0 CANCELLED"))
        fakes.says("sacct", "12_0|COMPLETED|0:0\n", "12_0|CANCELLED by 7|0:0\n")
        assert states(of, handles) == [UNKNOWN]
        clock.sleep(6)
        assert [(r.state, r.detail) for r in of.poll(handles)] == [(ENDED, "CANCELLED by 7")]

    def test_jobs_cancelled_while_they_waited_have_one_line_for_all(
            self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        """Recorded: after scancel of the waiting jobs of an array, squeue prints its bare id."""
        of, handles = submitted(tmp_path, clock, 3)
        fakes.says("squeue", queue("12 CANCELLED", "12_0 RUNNING"))
        assert states(of, handles) == [RUNNING, ENDED, ENDED]


@pytest.mark.parametrize("state", ["SOMETHING_NEW", "COMPLETED,SOMETHING_NEW", "REVOKED", "COMPLETING", "REQUEUE_HOLD"])
def test_what_is_no_end_is_never_an_end(fakes: Fakes, clock: Clock, tmp_path: Path, state: str) -> None:
    of, handles = submitted(tmp_path, clock)
    fakes.says("squeue", queue(f"12_0 {state}"))
    for _ in range(50):
        assert ENDED not in states(of, handles)
        clock.sleep(60)
    assert state.rpartition(",")[2] in of.poll(handles)[0].detail


@pytest.mark.parametrize("state, reason, waits", [
    ("PENDING", "Priority", ""), ("PENDING", "None", ""), ("RUNNING", "QOSMaxWallDurationPerJobLimit", ""),
    ("PENDING", "QOSMaxWallDurationPerJobLimit", "PENDING (QOSMaxWallDurationPerJobLimit)"),
    ("PENDING", "A new reason, with a list", "PENDING (A new reason, with a list)"),
    ("REQUEUE_HOLD", "None", "REQUEUE_HOLD"), ("PENDING", "JobHeldUser", "PENDING (JobHeldUser)"),
])
def test_what_keeps_a_job_waiting_beyond_its_turn_is_reported(
        fakes: Fakes, clock: Clock, tmp_path: Path, state: str, reason: str, waits: str) -> None:
    of, handles = submitted(tmp_path, clock)
    fakes.says("squeue", queue(f"12_0 {state}", reason=reason))
    assert [r.waits for r in of.poll(handles)] == [waits]


@pytest.mark.parametrize("lasted_s, detail", [
    (30, "PREEMPTED after 30 s (TIMEOUT, exit 0)"), (580, "TIMEOUT, exit 0"), (0, "TIMEOUT, exit 0")])
def test_a_time_that_preemption_cut_short_is_no_time_limit(
        fakes: Fakes, clock: Clock, tmp_path: Path, lasted_s: int, detail: str) -> None:
    of, handles = submitted(tmp_path, clock)
    note_end(tmp_path, 0, 0)
    began = start_note(tmp_path / "jobs" / "batch-1", 0, 0)
    ended = began.with_suffix(".exit.json").stat().st_mtime
    os.utime(began, (ended - lasted_s, ended - lasted_s))
    fakes.says("squeue", queue("12_0 TIMEOUT"))
    assert [r.detail for r in of.poll(handles)] == [detail], "of ten minutes"


def test_a_job_named_like_our_output_changes_nothing(fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
    """No name of another job of the user is ever printed in the queue that is parsed."""
    of, handles = submitted(tmp_path, clock)
    of.poll(handles)
    assert [c for c in fakes.calls("squeue") if "%j" in c] == []


@pytest.mark.parametrize("text, numbers", [
    ("3", [3]), ("0-3%2", [0, 1, 2, 3]), ("1,4-5,9", [1, 4, 5, 9]), ("", []), ("N/A", []), ("1-x", []),
])
def test_scontrols_ranges(text: str, numbers: list[int]) -> None:
    assert list(ask.expand(text)) == numbers


@pytest.mark.parametrize("jobs, words", [
    (["12_0"], ["12_[0]"]), (["12_3", "12_1", "12_2", "12_7", "9_0"], ["12_[1-3,7]", "9_[0]"]),
    ([f"5_{i}" for i in range(500)], ["5_[0-499]"]), (["1_1", "1_1"], ["1_[1]"]),
])
def test_ids_for_scancel_are_short(jobs: list[str], words: list[str]) -> None:
    assert ask.compact(jobs) == words


def test_a_cluster_without_accounts_is_recognised(fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
    fakes.fails("sacct", DISABLED)
    of, handles = submitted(tmp_path, clock)
    fakes.says("squeue", queue("12_0 FAILED"))
    assert [r.detail for r in of.poll(handles)] == ["FAILED"]
