"""A real Slurm: jobs run, every fault does what it says, and nothing is left behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from cluster.rehearsal import Preemption, Rehearsal, Shape, breaks, down, find, status, up
from cluster.rehearsal import places as place
from cluster.rehearsal.client import ClientError, ask
from cluster.rehearsal.look import Health
from sweeps.errors import EnvironmentError_, UsageError
from tests.cluster.rehearsal.jobs import processes, state, submit, until, until_state

pytestmark = pytest.mark.slurm

COMMAND = [sys.executable, "-m", "orchestrator", "rehearsal"]
STUBBORN = "trap '' TERM; (trap '' TERM; while true; do sleep 1; done) & while true; do sleep 1; done"
"""Ignores SIGTERM, and so does its child."""


def test_sbatch_runs_srun_over_both_nodes_and_sacct_tells_of_it(cluster: Rehearsal, tmp_path: Path) -> None:
    job = submit(cluster, "srun --label --mem=50 printenv SLURMD_NODENAME", "-N2", output=tmp_path / "out")
    until_state(cluster, job, "COMPLETED")
    assert sorted((tmp_path / "out").read_text().split()) == sorted(["0:", "1:", *cluster.nodes])
    account = ["sacct", "-n", "-X", "-P", "-j", job, "-o", "State,NodeList"]
    until(lambda: ask(cluster, account).startswith("COMPLETED"), "sacct to know")  # its records come in batches


def test_status_shows_daemons_nodes_queue_and_the_line_that_uses_it(cluster: Rehearsal) -> None:
    job = submit(cluster, "sleep 60")
    until_state(cluster, job, "RUNNING")
    seen = status(cluster)
    assert seen.health is Health.UP and seen.problems == () and seen.accounting == "answers"
    assert {d.state for d in seen.daemons} == {"running"} and all(d.pid for d in seen.daemons)
    assert [n.name for n in seen.nodes] == list(cluster.nodes) and seen.queue["RUNNING"] == 1
    shell = f"{seen.usage[0]}; squeue -h -j {job} -o %T"
    assert subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout.strip() == "RUNNING"


def test_two_ups_at_once_make_two_clusters_and_down_leaves_no_process_of_them(
    installed: None, places: Path, tmp_path: Path,
) -> None:
    odd = tmp_path / ("a long folder, with # and spaces/" * 4)
    both = [subprocess.Popen([*COMMAND, "up", "--name", name, "--no-accounting", "--json", *more],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for name, more in (("one", []), ("two", ["--folder", str(odd), "--nodes", "1"]))]
    for process in both:
        shown, said = process.communicate(timeout=90)
        assert process.returncode == 0, said
        assert json.loads(shown)["health"] == "up"
    one, two = find("one"), find("two")
    assert not set(one.ports.values()) & set(two.ports.values()) and two.folder.is_relative_to(odd)
    jobs = [submit(r, STUBBORN) for r in (one, two)]
    for rehearsal, job in zip((one, two), jobs, strict=True):
        until_state(rehearsal, job, "RUNNING")
    breaks(one, "kill-slurmd", "n1")  # so that no daemon ends its job

    down("one")
    assert processes(one) == [] and not one.folder.exists() and not one.home.is_symlink()
    assert state(two, jobs[1])[0] == "RUNNING", "the other one was disturbed"
    down("two")
    assert processes(two) == [] and not two.folder.exists()


def test_up_again_returns_what_is_up_and_another_shape_is_refused(cluster: Rehearsal) -> None:
    assert up(cluster.name) == cluster
    with pytest.raises(UsageError, match="is up with another shape"):
        up(cluster.name, Shape(nodes=3))


def test_hanging_sacct_hangs_until_released_while_jobs_run_on(cluster: Rehearsal) -> None:
    breaks(cluster, "hang-sacct")
    with pytest.raises(ClientError, match="gave no answer in 3 s"):
        ask(cluster, ["sacct", "-n"], timeout_s=3)
    job = submit(cluster, "true")
    until_state(cluster, job, "COMPLETED")
    assert status(cluster).accounting == "slurmdbd hangs"
    breaks(cluster, "release-sacct")
    until(lambda: "COMPLETED" in ask(cluster, ["sacct", "-n", "-j", job]), "sacct to have caught up")


def test_without_slurmdbd_sacct_fails_at_once_and_nothing_is_lost(cluster: Rehearsal) -> None:
    breaks(cluster, "stop-slurmdbd")
    with pytest.raises(ClientError, match="failed"):
        ask(cluster, ["sacct", "-n"])
    job = submit(cluster, "true")
    until_state(cluster, job, "COMPLETED")
    breaks(cluster, "start-slurmdbd")
    until(lambda: "COMPLETED" in ask(cluster, ["sacct", "-n", "-j", job]), "the record to be delivered")


def test_a_job_of_a_killed_slurmd_restarts_elsewhere_while_its_old_process_writes_on(
    cluster: Rehearsal, tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    job = submit(cluster, "while true; do echo $SLURMD_NODENAME; sleep 0.2; done", "--requeue", output=out)
    until_state(cluster, job, "RUNNING")
    _, first = state(cluster, job)
    breaks(cluster, "kill-slurmd", first)
    breaks(cluster, "down", first)
    until(lambda: state(cluster, job) not in ((s, first) for s in ("RUNNING", "COMPLETING")), "the job to leave")
    until_state(cluster, job, "RUNNING")
    assert state(cluster, job)[1] != first
    until(lambda: state(cluster, job)[1] in out.read_text().split(), "the second one to write")
    lines = out.read_text().split().count(first)
    until(lambda: out.read_text().split().count(first) > lines, "the first one to write on")


def test_the_controller_stops_and_starts_again_with_its_jobs(cluster: Rehearsal) -> None:
    job = submit(cluster, "sleep 60")
    until_state(cluster, job, "RUNNING")
    breaks(cluster, "stop-slurmctld")
    assert status(cluster).health is Health.BROKEN and "slurmctld is dead" in status(cluster).problems
    with pytest.raises(ClientError):
        ask(cluster, ["scontrol", "ping"], timeout_s=3)
    breaks(cluster, "start-slurmctld")
    assert state(cluster, job)[0] == "RUNNING"
    breaks(cluster, "restart-slurmctld")
    assert state(cluster, job)[0] == "RUNNING"


def test_a_drained_node_takes_no_jobs_until_it_is_resumed(cluster: Rehearsal) -> None:
    for node in ("n1", "n2"):
        breaks(cluster, "drain", node)
    job = submit(cluster, "true")
    time.sleep(3)
    assert state(cluster, job)[0] == "PENDING"
    breaks(cluster, "resume", "n2")
    until_state(cluster, job, "COMPLETED")
    assert state(cluster, job)[1] == cluster.node("n2")


def test_scratch_is_filled_and_freed_or_the_reason_is_given(cluster: Rehearsal) -> None:
    file = cluster.scratch / "checkpoint"
    if not os.path.ismount(cluster.folder / "scratch"):
        with pytest.raises(EnvironmentError_, match="no disk of its own"):
            breaks(cluster, "fill-scratch")
        return
    breaks(cluster, "fill-scratch")
    with pytest.raises(OSError, match="No space left"):
        file.write_bytes(b"x" * 4096)
    breaks(cluster, "fill-scratch", "2")
    file.write_bytes(b"x" * 1024**2)
    breaks(cluster, "free-scratch")
    file.write_bytes(b"x" * 8 * 1024**2)
    file.unlink()


def test_a_job_beyond_its_memory_is_killed_and_the_log_says_why(cluster: Rehearsal, tmp_path: Path) -> None:
    hungry = f"{sys.executable} -c 'import time; x = b\"x\" * 400_000_000; time.sleep(60)'"
    job = submit(cluster, f"srun --mem=100 {hungry}", output=tmp_path / "out")
    until_state(cluster, job, "FAILED", "OUT_OF_MEMORY", "CANCELLED")
    assert "memory limit" in (tmp_path / "out").read_text()


def test_a_preempted_job_gets_its_signal_and_is_requeued(cluster: Rehearsal, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = submit(cluster, "srun --mem=50 bash -c \"trap 'echo USR2' USR2; echo began; while true; do sleep 0.2; done\"",
                 "--requeue", "--signal=USR2@30", output=out)
    until(lambda: out.exists() and "began" in out.read_text(), "the job to begin")
    assert f": {job} (requeued" in breaks(cluster, "preempt", job)
    assert "USR2" in out.read_text()
    until(lambda: out.read_text().count("began") == 2, "the job to begin again")


def test_what_cannot_be_preempted_is_refused_with_its_state(cluster: Rehearsal) -> None:
    job = submit(cluster, "true", "--begin=now+1hour")
    with pytest.raises(UsageError, match=r"does not run \(PENDING\)"):
        breaks(cluster, "preempt", job)
    with pytest.raises(UsageError, match="not in the queue"):
        breaks(cluster, "preempt", "99999")
    with pytest.raises(UsageError, match="give a job id"):
        breaks(cluster, "preempt", "$(reboot)")


@pytest.mark.parametrize("victim", [0, 2])
def test_a_port_that_somebody_takes_between_choice_and_start_is_replaced(
    installed: None, places: Path, monkeypatch: pytest.MonkeyPatch, victim: int,
) -> None:
    choose, chosen = place.free_ports, []
    with socket.create_server(("127.0.0.1", 0)) as holder:
        def torn(count: int, taken: Iterable[int]) -> tuple[int, ...]:
            ports = list(choose(count, taken))
            if not chosen:
                ports[victim] = holder.getsockname()[1]
            chosen.append(tuple(ports))
            return chosen[-1]

        monkeypatch.setattr(place, "free_ports", torn)
        rehearsal = up("collides", Shape(accounting=False))
    try:
        assert len(chosen) == 2 and rehearsal.controller_port == chosen[1][0]
    finally:
        down("collides")


@pytest.mark.skipif(os.geteuid() != 0, reason="this whole session is an ordinary user's")
def test_an_ordinary_user_needs_no_root(installed: None, places: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(places, nobody.pw_uid, nobody.pw_gid)
    # forked with everything imported: that user may be unable to read this checkout or its interpreter
    child = multiprocessing.get_context("fork").Process(target=_as_user, args=(nobody.pw_uid, nobody.pw_gid))
    child.start()
    child.join(timeout=100)
    assert child.exitcode == 0
    assert not [line for line in _commands() if str(places) in line]


def _as_user(user: int, group: int) -> None:
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    os.chdir("/")
    os.environ["HOME"] = "/nonexistent"
    rehearsal = up("ordinary")
    try:
        job = submit(rehearsal, "srun --mem=50 true", "-N2")
        until_state(rehearsal, job, "COMPLETED")
        assert {d.state for d in status(rehearsal).daemons} == {"running"}
        with pytest.raises(EnvironmentError_, match="no disk of its own"):
            breaks(rehearsal, "fill-scratch")
    finally:
        down("ordinary")


# -- longer demonstrations ---------------------------------------------------------------------------------------------

@pytest.mark.proof
@pytest.mark.parametrize("signalled", [True, False])
def test_preemption_by_cancel_ends_the_job_with_and_without_the_user_signal(
    installed: None, places: Path, tmp_path: Path, signalled: bool,
) -> None:
    shape = Shape(preemption=Preemption.CANCEL, user_signal=signalled, accounting=False)
    rehearsal = up("cancels", shape)
    try:
        job = submit(rehearsal, "srun --mem=50 bash -c \"trap 'echo USR2' USR2; trap 'echo TERM' TERM; echo began; "
                     "while true; do sleep 0.2; done\"", "--requeue", "--signal=USR2@30", output=tmp_path / "out")
        until(lambda: (tmp_path / "out").exists() and "began" in (tmp_path / "out").read_text(), "the job to begin")
        assert "(cancelled" in breaks(rehearsal, "preempt", job)
        until_state(rehearsal, job, "PREEMPTED")
        text = (tmp_path / "out").read_text()
        assert ("USR2" in text) is signalled and "TERM" in text
    finally:
        down("cancels")


@pytest.mark.proof
def test_a_silent_node_is_noticed_by_time_outs_alone_within_a_minute(cluster: Rehearsal) -> None:
    job = submit(cluster, "sleep 300", "--requeue")
    until_state(cluster, job, "RUNNING")
    _, first = state(cluster, job)
    breaks(cluster, "kill-slurmd", first)
    until(lambda: state(cluster, job)[0] == "RUNNING" and state(cluster, job)[1] != first, "the job to move", 90)


@pytest.mark.proof
def test_a_killed_controller_comes_back_with_its_jobs(cluster: Rehearsal) -> None:
    job = submit(cluster, "sleep 120")
    until_state(cluster, job, "RUNNING")
    time.sleep(6)  # it saves its state every 5 s
    breaks(cluster, "kill-slurmctld")
    breaks(cluster, "start-slurmctld")
    assert state(cluster, job)[0] == "RUNNING"


@pytest.mark.proof
def test_an_sbatch_that_times_out_on_a_hanging_controller_may_have_submitted(cluster: Rehearsal) -> None:
    breaks(cluster, "hang-slurmctld")
    with pytest.raises(ClientError):
        ask(cluster, ["sbatch", "--job-name=ambiguous", "--output=/dev/null", "--wrap=sleep 60"], timeout_s=60)
    breaks(cluster, "release-slurmctld")
    until(lambda: ask(cluster, ["squeue", "-h", "-n", "ambiguous", "-o", "%i"]) != "", "the job to appear")


@pytest.mark.proof
@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0, 4.0])
def test_an_up_that_is_killed_midway_is_cleared_away_by_the_next_down(
    installed: None, places: Path, seconds: float,
) -> None:
    process = subprocess.Popen([*COMMAND, "up", "--name", "torn"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run([*COMMAND, "down", "--name", "torn"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "no rehearsal 'torn'" in done.stderr
    assert not [line for line in _commands() if str(places) in line]


@pytest.mark.proof
def test_an_interrupted_up_leaves_nothing(installed: None, places: Path) -> None:
    process = subprocess.Popen([*COMMAND, "up", "--name", "torn"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until(lambda: (places / "named" / "torn" / "run" / "mariadbd.json").exists(), "the database to start")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not [line for line in _commands() if str(places) in line]


@pytest.mark.proof
def test_a_long_folder_with_spaces_takes_a_cluster_with_accounting(
    installed: None, places: Path, tmp_path: Path,
) -> None:
    rehearsal = up("odd", folder=tmp_path / ("a long folder, with # and 'quotes'/" * 10))
    try:
        job = submit(rehearsal, "srun --mem=50 true", "-N2")
        until_state(rehearsal, job, "COMPLETED")
        until(lambda: "COMPLETED" in ask(rehearsal, ["sacct", "-n", "-j", job]), "sacct to know")
    finally:
        down("odd")
    assert processes(rehearsal) == []


def _commands() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
