"""What only a real Slurm can show: adoption, requeues, ranks, signals, what crosses into a job, hostile folders."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from cluster.clients import Clients, needed
from cluster.executors import _slurm_notes as notes
from cluster.job import Executor, JobHandle, JobState
from cluster.rehearsal import Rehearsal
from sweeps.errors import EnvironmentError_
from sweeps.store.files import read_json
from sweeps.store.records import read_result
from tests.cluster.jobs import ended, known, request, until
from tests.cluster.slurm.test_contract import executor
from tests.workloads.tickets import spec, stage_folder

pytestmark = pytest.mark.slurm


def client(slurm: Rehearsal, *command: str) -> str:
    """Run a client by hand."""
    clients = Clients(conf=str(slurm.conf))
    return needed(clients.scancel(*command[1:]) if command[0] == "scancel" else clients.query(*command))


def began(root: Path, stage: object, number: int = 1) -> bool:
    """Tell whether an attempt of the stage has written its first row."""
    path = stage_folder(root, stage).attempt(number).path / "metrics.jsonl"  # type: ignore[arg-type]
    return path.exists() and path.stat().st_size > 0


def state(of: Executor, handle: JobHandle) -> JobState:
    """One job's state."""
    return of.poll([handle])[0].state


class TestAdoption:
    """A controller may die at any moment; the next finds its jobs, in another process."""

    def test_another_process_finds_polls_and_cancels_the_jobs(self, slurm: Rehearsal, tmp_path: Path) -> None:
        stages = [spec("wait", salt=i) for i in range(2)]
        handles = executor(tmp_path, slurm).submit(request(tmp_path, [[s] for s in stages]))
        successor = executor(tmp_path, slurm)
        assert successor.find("batch-1") == handles
        until(lambda: all(began(tmp_path, s) for s in stages))
        assert [r.state for r in successor.poll(handles)] == [JobState.RUNNING] * 2
        assert successor.slots_free() == 6
        successor.cancel(handles)
        assert [r.detail for r in ended(successor, handles)] == ["exit 0", "exit 0"]
        assert (stage_folder(tmp_path, stages[0]).attempt(1).path / "stopped.json").exists()

    def test_jobs_run_though_the_controller_dies_right_after_sbatch(
            self, slurm: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing of what comes after sbatch (submitit's rename, the id's note) is needed by the jobs or by `find`."""
        stage = spec()
        with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
            dying.setattr(notes, "number", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            executor(tmp_path, slurm).submit(request(tmp_path, [[stage]]))
        successor = executor(tmp_path, slurm)
        assert successor.slots_free() == 7, "a submission in doubt takes its slots"
        found = known(successor)
        assert [r.detail for r in ended(successor, found)] == ["exit 0"]
        assert read_result(stage_folder(tmp_path, stage)) is not None
        assert executor(tmp_path, slurm).find("batch-1") == found

    def test_a_submission_that_never_reached_slurm_is_found_to_be_none(
            self, slurm: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Clients, "sbatch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            executor(tmp_path, slurm).submit(request(tmp_path, [[spec()]]))
        started = time.monotonic()
        assert known(executor(tmp_path, slurm)) == []
        assert time.monotonic() - started >= 10, "one empty answer is not absence: Slurm's MessageTimeout must pass"
        assert executor(tmp_path, slurm).find("batch-1") == []
        assert time.monotonic() - started < 30, "noted for good"

    def test_a_store_made_anew_at_the_same_place_does_not_take_the_former_ones_jobs(
            self, slurm: Rehearsal, tmp_path: Path) -> None:
        root, former = tmp_path / "store", tmp_path / "former"
        old = executor(root, slurm).submit(request(root, [[spec()]]))
        ended(executor(root, slurm), old)
        root.rename(former)
        new = executor(root, slurm).submit(request(root, [[spec()]]))
        (root / "notes" / "batch-1" / "job.json").unlink()
        assert known(executor(root, slurm)) == new
        ended(executor(root, slurm), new)


class TestEnds:
    """How jobs end that nobody let finish."""

    def test_a_requeued_job_is_not_over_and_goes_on_from_its_checkpoint(self, slurm: Rehearsal, tmp_path: Path) -> None:
        stage, cluster = spec("wait"), executor(tmp_path, slurm)
        handles = cluster.submit(request(tmp_path, [[stage]]))
        until(lambda: began(tmp_path, stage))
        client(slurm, "scontrol", "requeue", handles[0].job_id)
        seen = set()
        deadline = time.monotonic() + 100  # Slurm holds a requeued job back for a while
        while read_result(stage_folder(tmp_path, stage)) is None:
            seen.add(state(cluster, handles[0]))
            assert JobState.ENDED not in seen
            assert time.monotonic() < deadline, client(slurm, "squeue")
            time.sleep(0.2)
        assert [r.detail for r in ended(cluster, handles)] == ["exit 0"]
        result = read_result(stage_folder(tmp_path, stage))
        assert result is not None and result.scores["resumed_from"] == 7.0
        assert JobState.PENDING in seen

    def test_scancel_by_hand_is_reported_with_who_did_it(self, slurm: Rehearsal, tmp_path: Path) -> None:
        cluster = executor(tmp_path, slurm, slots=100)
        stages = [spec("wait", salt=i) for i in range(20)]
        handles = cluster.submit(request(tmp_path, [[s] for s in stages]))
        until(lambda: sum(began(tmp_path, s) for s in stages) == 8)
        client(slurm, "scancel", handles[0].job_id, handles[19].job_id)
        until(lambda: state(cluster, handles[0]) is JobState.ENDED and state(cluster, handles[19]) is JobState.ENDED)
        first, last = cluster.poll([handles[0], handles[19]])
        assert first.detail == f"CANCELLED by {os.getuid()}, exit 0", "it checkpointed, and left"
        assert last.detail == "CANCELLED before it began"
        cluster.cancel(handles[8:])
        until(lambda: all(r.state is JobState.ENDED for r in cluster.poll(handles[8:])))
        client(slurm, "scancel", handles[0].job_id.partition("_")[0])
        ended(cluster, handles)
        assert not any(began(tmp_path, s) for s in stages[12:]), "a few took the places of those that were killed"

    def test_a_refused_submission_names_the_reason_and_leaves_nothing_to_look_for(
            self, slurm: Rehearsal, tmp_path: Path) -> None:
        cluster = executor(tmp_path, slurm, partition="nowhere")
        with pytest.raises(EnvironmentError_, match="(?i)refused it.*invalid partition"):
            cluster.submit(request(tmp_path, [[spec()]]))
        started = time.monotonic()
        assert cluster.find("batch-1") == []
        assert time.monotonic() - started < 1
        assert cluster.slots_free() == 8

    def test_a_killed_job_is_told_from_one_that_left(self, slurm: Rehearsal, tmp_path: Path) -> None:
        stage, cluster = spec("ignore"), executor(tmp_path, slurm)
        handles = cluster.submit(request(tmp_path, [[stage]]))
        until(lambda: began(tmp_path, stage))
        started = read_json(tmp_path / "jobs" / "batch-1" / "0.0.json")
        os.kill(started["pid"], signal.SIGKILL)
        assert [r.detail for r in ended(cluster, handles)] == ["FAILED, exit 9"], "srun's own code for it"


class TestWhatCrosses:
    """Nothing goes into a job that nobody named."""

    def test_a_secret_of_the_submitting_shell_reaches_no_file_and_no_job(
            self, slurm: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        secret = "hunter2-hunter2"
        monkeypatch.setenv("API_TOKEN", secret)
        monkeypatch.setenv("SBATCH_EXPORT", "ALL")
        monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")  # as inside another job: makes sbatch fail, or use other limits
        monkeypatch.setenv("NAMED", "crosses")
        stage, cluster = spec("wait"), executor(tmp_path, slurm, environment=["NAMED"])
        handles = cluster.submit(request(tmp_path, [[stage]]))
        until(lambda: began(tmp_path, stage))
        pid = read_json(tmp_path / "jobs" / "batch-1" / "0.0.json")["pid"]
        inside = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        cluster.cancel(handles)
        ended(cluster, handles)
        assert not [line for line in inside if secret in line or line == "SLURM_MEM_PER_NODE=1"]
        assert "NAMED=crosses" in inside and "OMP_NUM_THREADS=1" in inside
        written = [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_symlink()]
        assert written and not [p for p in written if secret.encode() in p.read_bytes()]

    @pytest.mark.parametrize("folder", ["a b", "it's", 'quo"te', "$(touch pwned)", "semi;colon", "Zürich ∂", "-x#y"])
    def test_a_store_may_lie_in_a_folder_of_any_printable_name(
            self, slurm: Rehearsal, tmp_path: Path, folder: str) -> None:
        root = tmp_path / folder
        stage, cluster = spec(), executor(root, slurm)
        handles = cluster.submit(request(root, [[stage]]))
        assert [r.detail for r in ended(cluster, handles)] == ["exit 0"]
        assert cluster.logs(handles[0])["err"].stat().st_size > 0
        (root / "notes" / "batch-1" / "job.json").unlink()
        assert executor(root, slurm).find("batch-1") == handles


RANKS = '''
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1]).parent
keys = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURMD_NODENAME")
(folder / f"rank.{os.environ['RANK']}").write_text(json.dumps({k: os.environ[k] for k in keys} | {"pid": os.getpid()}))
time.sleep(100)
'''


def test_ranks_on_two_nodes_meet_and_die_together(slurm: Rehearsal, tmp_path: Path) -> None:
    package = tmp_path / "code" / "workloads"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "run.py").write_text(RANKS)
    cluster = executor(tmp_path, slurm, nodes=2)
    wanted = request(tmp_path, [[spec()]]).model_copy(update={
        "ranks": 4, "cores": 4, "environment": {"PYTHONPATH": str(package.parent)}})
    handles = cluster.submit(wanted)
    folder = Path(wanted.tickets[0]).parent
    until(lambda: len(list(folder.glob("rank.*"))) == 4 and all(p.stat().st_size for p in folder.glob("rank.*")))
    ranks = [read_json(folder / f"rank.{i}") for i in range(4)]
    assert [(r["RANK"], r["LOCAL_RANK"], r["WORLD_SIZE"]) for r in ranks] == [
        ("0", "0", "4"), ("1", "1", "4"), ("2", "0", "4"), ("3", "1", "4")]
    assert [r["SLURMD_NODENAME"] for r in ranks] == [n for n in slurm.nodes for _ in range(2)]
    assert len({(r["MASTER_ADDR"], r["MASTER_PORT"]) for r in ranks}) == 1
    os.kill(ranks[2]["pid"], signal.SIGKILL)
    killed = time.monotonic()
    ended(cluster, handles)
    assert time.monotonic() - killed < 15
    until(lambda: not any(Path(f"/proc/{r['pid']}").exists() for r in ranks))


def test_every_option_of_a_profile_is_taken(slurm: Rehearsal, tmp_path: Path) -> None:
    """sbatch takes the script of every option a profile has."""
    cluster = executor(tmp_path, slurm, sbatch={"comment": "a 'b' $c", "nice": 5}, setup=["export A='b c'"],
                       scratch=str(slurm.scratch), partition="main")
    handles = cluster.submit(request(tmp_path, [[spec()]]))
    assert [r.detail for r in ended(cluster, handles)] == ["exit 0"]
    assert "Comment=a 'b' $c" in client(slurm, "scontrol", "-o", "show", "job", handles[0].job_id)
    assert not list(slurm.scratch.glob("orchestrator-*"))
