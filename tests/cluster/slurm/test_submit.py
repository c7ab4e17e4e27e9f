"""Submitting, looking up and cancelling, against clients that refuse, hang, lie or answer late."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.executors._slurm_notes import load
from cluster.executors._slurm_starts import TICKETS
from cluster.job import JobHandle, JobState
from sweeps.errors import EnvironmentError_, InDoubtError, UsageError
from sweeps.store.files import read_json
from tests.cluster.slurm.fakes import Clock, Fakes, cluster, found, queue, wanted

TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


def named(root: Path, *jobs: str, state: str = "RUNNING") -> str:
    """What squeue prints for a look-up by name."""
    note = load(root / "notes", "batch-1")
    assert note is not None
    return "".join(f"{job}|{state}|{note.folder}/{note.script}|.\n" for job in jobs)


class TestSubmit:
    """One call of sbatch a request, with everything on disk before it."""

    def test_one_array_whatever_the_number_of_tickets(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        handles = cluster(tmp_path, clock).submit(wanted(tmp_path, 300))
        assert len(fakes.calls("sbatch")) == 1
        assert handles[299] == JobHandle(submission="batch-1", index=299, job_id="12_299")

    def test_nothing_is_pickled_and_each_job_finds_its_ticket_by_index(
            self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        cluster(tmp_path, clock).submit(wanted(tmp_path, 2))
        folder = tmp_path / "jobs" / "batch-1"
        assert [p.name for p in folder.iterdir() if p.suffix == ".pkl"] == []
        assert read_json(folder / TICKETS)["tickets"] == [str(tmp_path / f"{n}.ticket.json") for n in range(2)]

    @pytest.mark.parametrize("printed", ["", "12 and more\n", "Submitted batch job\n", "-1\n"])
    def test_what_cannot_be_read_may_have_been_submitted(
            self, fakes: Fakes, clock: Clock, tmp_path: Path, printed: str) -> None:
        fakes.says("sbatch", printed)
        of = cluster(tmp_path, clock)
        with pytest.raises(EnvironmentError_, match="may have been submitted all the same"):
            of.submit(wanted(tmp_path))
        assert of.slots_free() == 999

    @pytest.mark.parametrize("printed", ["12\n", "12;elsewhere\n", "a banner of the site\n12\n"])
    def test_the_id_is_the_last_line(self, fakes: Fakes, clock: Clock, tmp_path: Path, printed: str) -> None:
        fakes.says("sbatch", printed)
        assert cluster(tmp_path, clock).submit(wanted(tmp_path))[0].job_id == "12_0"

    @pytest.mark.parametrize("printed", [
        "sbatch: error: Batch job submission failed: Invalid partition name specified",
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
        "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, ...)",
        "sbatch: error: Batch job submission failed: Requested node configuration is not available",
        "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
        "sbatch: unrecognized option '--nonsense'",
    ])
    def test_a_refusal_is_not_looked_for(self, fakes: Fakes, clock: Clock, tmp_path: Path, printed: str) -> None:
        fakes.fails("sbatch", printed)
        of = cluster(tmp_path, clock)
        with pytest.raises(EnvironmentError_, match="refused it"):
            of.submit(wanted(tmp_path))
        assert of.find("batch-1") == [] and cluster(tmp_path, clock).find("batch-1") == []
        assert not [c for c in fakes.calls("squeue") if "batch-1" in c]
        assert of.slots_free() == 1000

    @pytest.mark.parametrize("printed", [
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates ...",
        "sbatch: error: AssocMaxSubmitJobLimit", "sbatch: error: AssocGrpSubmitJobsLimit",
    ])
    def test_a_limit_on_queued_jobs_is_met_by_asking_for_half_until_it_fits(
            self, fakes: Fakes, clock: Clock, tmp_path: Path, printed: str) -> None:
        of = cluster(tmp_path, clock, slots=40)
        fakes.fails("sbatch", printed)
        with pytest.raises(EnvironmentError_, match="Submit.*no room for 40 more beside 0"):
            of.submit(wanted(tmp_path, 40))
        assert of.find("batch-1") == [] and of.slots_free() == 20
        fakes.says("sbatch", "12\n")
        of.submit(wanted(tmp_path, 20, name="batch-2"))
        fakes.says("squeue", queue(*(f"12_{i} RUNNING" for i in range(17))))
        clock.sleep(6)
        assert of.slots_free() == 3, "topped up as jobs leave, without asking for more than fitted"
        clock.sleep(60)
        assert of.slots_free() == 30 - 17, "somebody else's may have left too"
        fakes.fails("sbatch", printed)
        for count, left in ((13, 6), (6, 3), (3, 1), (1, 0)):
            with pytest.raises(EnvironmentError_, match="beside 17 of this store"):
                of.submit(wanted(tmp_path, count, name=f"batch-{count}-more"))
            assert of.slots_free() == left
        clock.sleep(50)
        assert of.slots_free() == 0, "and is left alone for a while"

    def test_no_answer_about_free_slots_submits_nothing(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        fakes.fails("squeue", "Unable to contact slurm controller")
        fakes.fails("scontrol", "Unable to contact slurm controller")
        with pytest.raises(EnvironmentError_, match="0 of 1000 slots free: squeue .*Unable to contact|gave no answer"):
            cluster(tmp_path, clock).submit(wanted(tmp_path))
        assert fakes.calls("sbatch") == []
        assert load(tmp_path / "notes", "batch-1") is None

    def test_an_array_is_no_larger_than_the_cluster_takes(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        fakes.does("scontrol", "echo 'MaxArraySize            = 21'")
        assert cluster(tmp_path, clock).slots_free() == 21
        assert cluster(tmp_path, clock, limits={"array_tasks": 5}).slots_free() == 5

    @pytest.mark.parametrize("name", ["", "a b", "a,b", "a;b", "a\nb", "../a", "x" * 129, "é", "a|b", "$(a)"])
    def test_hostile_names_are_refused(self, fakes: Fakes, clock: Clock, tmp_path: Path, name: str) -> None:
        with pytest.raises(UsageError, match="submission name"):
            cluster(tmp_path, clock).submit(wanted(tmp_path, name=name))
        assert fakes.calls("sbatch") == []

    @pytest.mark.parametrize("folder", ["relative", "/a%jb", "/a\nb", "/a\\b", "/a\x7f"])
    def test_folders_that_slurm_would_change_are_refused(
            self, fakes: Fakes, clock: Clock, tmp_path: Path, folder: str) -> None:
        with pytest.raises(UsageError, match="use another --root"):
            cluster(tmp_path, clock).submit(wanted(tmp_path).model_copy(update={"folder": folder}))
        assert fakes.calls("sbatch") == []


class TestFind:
    """An sbatch without an answer, or a controller that died: are there jobs or not?"""

    @pytest.mark.parametrize("action", [f"echo '{TIMED_OUT}' >&2; exit 1", "kill -9 $$", "sleep 1000"])
    def test_a_submission_that_seemed_to_fail_is_found(
            self, fakes: Fakes, clock: Clock, tmp_path: Path, action: str) -> None:
        fakes.does("sbatch", action)
        of = cluster(tmp_path, clock)
        of._clients.sbatch_timeout_s = 0.3
        with pytest.raises(EnvironmentError_, match="may have been submitted"):
            of.submit(wanted(tmp_path, 3))
        fakes.says("squeue", "", "", named(tmp_path, "12_0", "12_1", "12_2"))
        assert [h.job_id for h in found(of, clock)] == ["12_0", "12_1", "12_2"]
        assert len(fakes.calls("squeue")) == 3
        assert [h.job_id for h in found(cluster(tmp_path, clock), clock)] == ["12_0", "12_1", "12_2"]
        assert len(fakes.calls("squeue")) == 3, "the id is on record now"

    def test_absence_takes_as_long_as_a_message_may(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        fakes.fails("sbatch", TIMED_OUT)
        of = cluster(tmp_path, clock)
        with pytest.raises(EnvironmentError_):
            of.submit(wanted(tmp_path))
        began = clock.now
        assert found(of, clock) == []
        assert 10 <= clock.now - began < 15
        assert of.slots_free() == 1000

    def test_silence_is_not_absence(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        fakes.fails("sbatch", TIMED_OUT)
        of = cluster(tmp_path, clock)
        with pytest.raises(EnvironmentError_):
            of.submit(wanted(tmp_path))
        fakes.fails("squeue", "Unable to contact slurm controller")
        with pytest.raises(InDoubtError, match="cannot be told: squeue"):
            found(of, clock, patience_s=300)
        assert len(fakes.calls("squeue")) < 40
        fakes.says("squeue", named(tmp_path, "12_0"))
        clock.sleep(120)
        assert [h.job_id for h in found(of, clock)] == ["12_0"]

    def test_answers_between_silences_still_have_to_last(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        fakes.fails("sbatch", TIMED_OUT)
        of = cluster(tmp_path, clock)
        with pytest.raises(EnvironmentError_):
            of.submit(wanted(tmp_path))
        fakes.does("squeue", "exit 1", "", "exit 1", f"printf '{named(tmp_path, '12_0')}'")
        assert [h.job_id for h in found(of, clock)] == ["12_0"]

    def test_the_accounts_are_asked_for_what_the_daemon_forgot(
            self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        fakes.fails("sbatch", TIMED_OUT)
        of = cluster(tmp_path, clock)
        with pytest.raises(EnvironmentError_):
            of.submit(wanted(tmp_path))
        note = load(tmp_path / "notes", "batch-1")
        assert note is not None
        fakes.says("sacct", f"7_0|sbatch --parsable /j/submission.0.sh\n12_0|sbatch --parsable /j?/{note.script}\n")
        assert [h.job_id for h in found(of, clock)] == ["12_0"]

    def test_jobs_of_the_same_name_with_another_script_are_not_ours(
            self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        fakes.fails("sbatch", TIMED_OUT)
        of = cluster(tmp_path, clock)
        with pytest.raises(EnvironmentError_):
            of.submit(wanted(tmp_path))
        fakes.says("squeue", f"12_0|RUNNING|{tmp_path}/jobs/batch-1/submission.0123456789abcdef.sh|.\n")
        assert found(of, clock) == []

    def test_a_name_that_was_never_submitted_is_known_without_asking(
            self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        assert found(cluster(tmp_path, clock), clock) == []
        assert fakes.calls("squeue") == []


class TestCancel:
    """Those that wait are removed, those that run are asked, those that do not leave are killed."""

    def test_waiting_and_running_jobs_are_told_apart(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of = cluster(tmp_path, clock)
        handles = of.submit(wanted(tmp_path, 5))
        clock.sleep(60)
        fakes.says("squeue", queue("12_0 RUNNING", "12_1 CONFIGURING", "12_2 PENDING", "12_3 PENDING", "12_4 RUNNING"))
        of.cancel(handles[:4])
        assert fakes.calls("scancel") == ["12_[1-3]", "--signal=USR2 12_[0]"]
        of.cancel(handles[:4])
        assert len(fakes.calls("scancel")) == 2

    def test_no_state_filter_is_ever_used(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        """Recorded on 22.05: `scancel --state=PENDING 12_[2-3]` cancels all waiting jobs of the array."""
        of = cluster(tmp_path, clock)
        handles = of.submit(wanted(tmp_path, 2))
        clock.sleep(60)
        fakes.says("squeue", queue("12_0 PENDING", "12_1 RUNNING"))
        of.cancel(handles)
        for _ in range(5):
            clock.sleep(100)
            of.poll(handles)
        assert not [c for c in fakes.calls("scancel") if "state" in c or c.startswith("-t")]

    def test_a_removed_job_that_slurm_keeps_no_trace_of_has_ended(
            self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of = cluster(tmp_path, clock)
        handles = of.submit(wanted(tmp_path, 3))
        clock.sleep(60)
        fakes.says("squeue", queue("12_0 PENDING", "12_1 PENDING", "12_2 PENDING"), queue("12_2 PENDING"))
        of.cancel(handles[:2])
        assert [r.detail for r in of.poll(handles)] == ["CANCELLED before it began"] * 2 + ["PENDING"]

    def test_a_scancel_without_an_answer_is_tried_again(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of = cluster(tmp_path, clock)
        handles = of.submit(wanted(tmp_path))
        clock.sleep(60)
        fakes.fails("scancel", "Unable to contact slurm controller")
        fakes.says("squeue", queue("12_0 PENDING"))
        of.cancel(handles)
        fakes.says("scancel", "")
        clock.sleep(3)
        of.poll(handles)
        assert fakes.calls("scancel") == ["12_[0]"]

    def test_who_does_not_leave_is_killed_after_the_grace(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        of = cluster(tmp_path, clock, grace_s=30)
        handles = of.submit(wanted(tmp_path))
        clock.sleep(60)
        fakes.says("squeue", queue("12_0 RUNNING"))
        of.cancel(handles)
        for _ in range(20):
            clock.sleep(1)
            assert of.poll(handles)[0].detail == "RUNNING, cancelled"
        assert set(fakes.calls("scancel")) == {"--signal=USR2 12_[0]"}
        clock.sleep(10)
        of.poll(handles)
        assert fakes.calls("scancel")[-1] == "12_[0]"
        fakes.says("squeue", queue("12_0 CANCELLED"))
        clock.sleep(6)
        assert of.poll(handles)[0].state is JobState.ENDED
        calls = len(fakes.calls("scancel"))
        clock.sleep(60)
        of.poll(handles)
        assert len(fakes.calls("scancel")) == calls


class TestSlots:
    """Jobs of the whole store count, whichever controller submitted them."""

    def test_other_controllers_jobs_take_slots_until_they_end(self, fakes: Fakes, clock: Clock, tmp_path: Path) -> None:
        first, second = cluster(tmp_path, clock), cluster(tmp_path, clock)
        first.submit(wanted(tmp_path, 4))
        clock.sleep(60)
        fakes.says("squeue", queue("12_0 RUNNING", "12_1 PENDING", "12_2 COMPLETING", "12_3 COMPLETED", "99_0 RUNNING"))
        assert (first.slots_free(), second.slots_free()) == (997, 997)
        fakes.says("squeue", queue("12_0 COMPLETED", "99_0 RUNNING"))
        clock.sleep(6)
        assert (first.slots_free(), second.slots_free()) == (1000, 1000)
        assert (tmp_path / "notes" / "batch-1" / "over.json").exists()
        assert cluster(tmp_path, clock).slots_free() == 1000


@pytest.mark.parametrize("printed", [
    "sbatch: error: Batch job submission failed: Required partition not available (inactive or drain)",
    "sbatch: error: Batch job submission failed: Requested node configuration is not available"])
def test_a_partition_that_closes_after_it_took_jobs_is_waited_for(
        fakes: Fakes, clock: Clock, tmp_path: Path, printed: str) -> None:
    of = cluster(tmp_path, clock)
    fakes.fails("sbatch", printed)
    with pytest.raises(EnvironmentError_, match="Slurm refused it"):
        of.submit(wanted(tmp_path))
    assert of.slots_free() == 1000, "at the beginning it is an error at once"
    fakes.says("sbatch", "12\n")
    of.submit(wanted(tmp_path, name="batch-2"))
    fakes.says("squeue", queue("12_0 RUNNING"))
    clock.sleep(6)
    for reign in (of, cluster(tmp_path, clock)):
        fakes.fails("sbatch", printed)
        name = f"batch-{id(reign)}"
        with pytest.raises(EnvironmentError_, match="takes no jobs for now.*not available.*tried again every 60 s"):
            reign.submit(wanted(tmp_path, 2, name=name))
        assert reign.find(name) == [] and reign.slots_free() == 0
        clock.sleep(61)
        assert reign.slots_free() == 999, "and then all of them are tried"
