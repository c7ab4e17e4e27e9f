"""A job's only door: what it writes for every way in which a stage can end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sweeps.language.stage import StageSpec, Ticket
from sweeps.store import claims, records
from sweeps.store.files import read_json
from sweeps.store.records import checkpoints, own_rows, read_result
from tests.workloads.tickets import make_ticket, spec, stage_folder, write_ticket
from workloads.provenance import commit
from workloads.ranks import NOT_RUN, Ranks
from workloads.registry import load_registries
from workloads.run import Runner, Stop, main


def run(ticket: Ticket, ranks: Ranks | None = None, stop: Stop | None = None) -> int:
    """Run a ticket in this process."""
    registries = load_registries([Path(p) for p in ticket.plugins])
    return Runner(ticket=ticket, registries=registries, ranks=ranks or Ranks(), should_stop=stop or Stop()).run()


def failure_of(root: Path, stage: StageSpec, attempt: int = 1) -> dict[str, Any]:
    """The failure that an attempt recorded."""
    return read_json(stage_folder(root, stage).attempt(attempt).failure)


def test_success_leaves_a_whole_record(tmp_path: Path) -> None:
    first = spec()
    second = spec(salt=1, inputs=[first])
    assert run(make_ticket(tmp_path, [first, second])) == 0
    result = read_result(stage_folder(tmp_path, second))
    assert result is not None
    assert (result.status, result.scores["inputs"]) == ("done", 1.0)
    assert set(result.files) == {"artifacts/text", "metrics.jsonl"}
    folder = stage_folder(tmp_path, first)
    assert folder.spec.read_text() == first.to_text()
    assert [row.tokens for row in own_rows(folder.attempt(1))] == [1]
    execution = read_json(folder.attempt(1).execution)
    assert execution["submission"] == "batch-1"
    assert {"python", "torch", "deepspeed", "transformers", "numpy", "commit"} <= set(execution["versions"])


def test_a_failure_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    bad, other = spec("fail"), spec(salt=5)
    after_bad = spec(salt=6, inputs=[bad])
    assert run(make_ticket(tmp_path, [bad, after_bad, other])) == 1
    said = failure_of(tmp_path, bad)
    assert (said["class"], said["message"]) == ("ValueError", "no such thing: \\udce9")
    assert said["traceback"][-1].startswith("ValueError")
    assert read_result(stage_folder(tmp_path, bad)) is None
    assert not stage_folder(tmp_path, after_bad).attempts.exists()
    assert read_result(stage_folder(tmp_path, other)) is not None


def test_running_a_ticket_again_only_retries(tmp_path: Path) -> None:
    bad, good = spec("fail"), spec()
    ticket = make_ticket(tmp_path, [good, bad])
    assert [run(ticket), run(ticket)] == [1, 1]
    assert [p.name for p in stage_folder(tmp_path, good).attempts.iterdir()] == ["1"]
    assert sorted(p.name for p in stage_folder(tmp_path, bad).attempts.iterdir()) == ["1", "2"]


def test_divergence_is_a_result_and_ends_what_follows(tmp_path: Path) -> None:
    wild = spec("diverge")
    after = spec(salt=3, inputs=[wild])
    assert run(make_ticket(tmp_path, [wild, after])) == 0
    result = read_result(stage_folder(tmp_path, wild))
    assert result is not None
    assert result.status == "diverged"
    assert not stage_folder(tmp_path, after).attempts.exists()


@pytest.mark.parametrize("superseded_by", ["other", "batch-1"])
def test_a_superseded_job_writes_nothing(tmp_path: Path, superseded_by: str) -> None:
    stage = spec()
    ticket = make_ticket(tmp_path, [stage])
    folder = stage_folder(tmp_path, stage)
    claims.take(folder, sweep="b", term=1, submission=superseded_by, after=1)
    assert run(ticket) == 0
    assert sorted(p.name for p in folder.path.iterdir()) == ["claims"]


@pytest.mark.parametrize("notices", [True, False])
def test_what_is_left_of_a_job_that_was_started_again_runs_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notices: bool
) -> None:
    """At once where it looks, else after the stage, whose result counts if it is the first."""
    monkeypatch.setattr(records, "CLAIM_SECONDS", 0.0 if notices else 1000.0)
    held, other = spec("hold"), spec(salt=5)
    ticket = make_ticket(tmp_path, [held, other])
    folder = stage_folder(tmp_path, held)
    job = threading.Thread(target=run, args=(ticket,))
    job.start()
    while not folder.attempt(1).execution.exists():
        time.sleep(0.01)
    records.open_attempt(folder, {}, claim=1).close()
    if not notices:
        (folder.path / "go").touch()
    job.join(timeout=60)
    assert not job.is_alive()
    assert (read_result(folder) is None) == notices
    assert not stage_folder(tmp_path, other).attempts.exists()


def test_an_unclaimed_stage_is_left(tmp_path: Path) -> None:
    assert run(make_ticket(tmp_path, [spec()], claim=False)) == 0
    assert not stage_folder(tmp_path, spec()).path.exists()


def test_another_revision_of_the_code_is_refused(tmp_path: Path) -> None:
    stage = spec(revision=2)
    assert run(make_ticket(tmp_path, [stage])) == 1
    assert "planned at revision 2" in failure_of(tmp_path, stage)["message"]


def test_nothing_starts_after_the_job_was_asked_to_leave(tmp_path: Path) -> None:
    stop = Stop()
    stop.ask()
    assert run(make_ticket(tmp_path, [spec()]), stop=stop) == 0
    assert not stage_folder(tmp_path, spec()).attempts.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_checkpoints_and_the_next_attempt_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    stage, later = spec("wait"), spec(salt=9)
    path = write_ticket(make_ticket(tmp_path, [stage, later]))
    folder = stage_folder(tmp_path, stage)
    with subprocess.Popen([sys.executable, "-m", "workloads.run", str(path)], stderr=subprocess.PIPE) as job:
        while not list(own_rows(folder.attempt(1))) and job.poll() is None:
            time.sleep(0.02)
        job.send_signal(number)
        assert job.stderr is not None
        log = job.stderr.read().decode()
    assert job.returncode == 0, log
    assert "stopped as asked" in log
    assert [c.tokens for c in checkpoints(folder)] == [7]
    assert (folder.attempt(1).path / "stopped.json").is_file()
    assert read_result(folder) is None
    assert not stage_folder(tmp_path, later).attempts.exists()
    assert run(make_ticket(tmp_path, [stage], submission="batch-2")) == 0
    result = read_result(folder)
    assert result is not None
    assert (result.attempt, result.scores["resumed_from"]) == (2, 7.0)


def test_followers_use_the_leaders_attempt_and_write_nothing(tmp_path: Path) -> None:
    good, missing = spec(), spec(salt=1, inputs=[spec(salt=99)])
    ticket = make_ticket(tmp_path, [good, missing])
    folder = tmp_path / "announcements"
    leader, follower = (Ranks(rank=r, size=2, folder=folder, run="1.0") for r in (0, 1))
    assert run(ticket, leader) == 0
    before = sorted(p for p in stage_folder(tmp_path, good).path.rglob("*"))
    assert [follower.await_attempt(0), follower.await_attempt(1)] == [1, NOT_RUN]
    assert run(ticket, follower) == 0
    assert sorted(p for p in stage_folder(tmp_path, good).path.rglob("*")) == before


def test_ranks_need_a_name_for_this_start(tmp_path: Path) -> None:
    assert Ranks.of({}, tmp_path).leads
    slurm = {"RANK": "1", "WORLD_SIZE": "2", "SLURM_JOB_ID": "4", "SLURM_RESTART_COUNT": "3"}
    assert Ranks.of(slurm, tmp_path).run == "4.3"
    with pytest.raises(Exception, match="RUN_ID"):
        Ranks.of({"RANK": "1", "WORLD_SIZE": "2"}, tmp_path)


LEAVING = """
import sys, types
sys.modules["workloads.training.process"] = types.SimpleNamespace(leave=lambda: print("left"))
from workloads.run import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("act", "code", "said"), [("succeed", 0, "left\n"), ("fail", 1, "")])
def test_a_job_that_trained_leaves_its_ranks_unless_it_failed(tmp_path: Path, act: str, code: int, said: str) -> None:
    """Others may still wait for a rank that failed; after all else the group must be gone before the process ends."""
    path = write_ticket(make_ticket(tmp_path, [spec(act)]))
    done = subprocess.run([sys.executable, "-c", LEAVING, str(path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, said), done.stderr


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 1}'])
def test_no_ticket_is_a_usage_error(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ticket"
    path.write_text(content)
    mask = os.umask(0o022)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        assert main([str(path)]) == 2
    finally:
        os.umask(mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert "is no ticket" in caplog.text


def test_the_commit_is_read_without_git(tmp_path: Path) -> None:
    assert commit(tmp_path) == ""
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text("# pack-refs\nabc refs/heads/main\n")
    assert commit(tmp_path) == "abc"
    (git / "refs" / "heads" / "main").write_text("def\n")
    assert commit(tmp_path) == "def"


def test_the_door_is_light() -> None:
    code = "import json, sys, workloads.run; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert not {"torch", "numpy", "ray", "transformers"} & set(json.loads(out))
