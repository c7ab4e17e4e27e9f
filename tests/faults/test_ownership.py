"""Two controllers: of one sweep, and of two sweeps that want the same stages. Real training."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from sweeps.store.layout import Layout
from sweeps.store.ledger import fold, read_events
from tests.faults.conftest import Undisturbed
from tests.faults.live import ROOT, SWEEP, Live, check_same, kill, wait_for
from tests.faults.points import stages

pytestmark = pytest.mark.timeout(600)


@pytest.mark.slow
def test_a_second_controller_is_refused_and_a_takeover_fences_the_first(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    live = Live(root=tmp_path)
    sweep = Layout(tmp_path).sweep("faults")
    first = live.start("--quiet")
    wait_for(live.training, first)
    refused = subprocess.run(live.command(), cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 5
    assert f"pid {first.pid} on {socket.gethostname()}, running for" in refused.stderr
    assert "--takeover" in refused.stderr
    assert [p.name for p in sweep.ledger.iterdir()] == ["1.jsonl"]

    first.send_signal(signal.SIGSTOP)  # it cannot see the new term before that has ended
    live.finish("--quiet", "--takeover")
    check_same(live, undisturbed.live, interrupted=0)
    before = fold(read_events(sweep))
    first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 5, said
    assert "taken over" in said and "Traceback" not in said
    assert fold(read_events(sweep)) == before
    check_same(live, undisturbed.live, interrupted=0)


@pytest.mark.proof
def test_a_controller_that_is_taken_over_while_it_runs_stops_and_its_jobs_go_on(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    live = Live(root=tmp_path)
    first = live.start("--quiet")
    wait_for(live.training, first)
    second = live.start("--quiet", "--takeover")
    _, said = first.communicate(timeout=120)
    assert first.returncode == 5, said
    _, said = second.communicate()
    assert second.returncode == 0, said
    check_same(live, undisturbed.live, interrupted=0)


def other(tmp_path: Path, root: Path) -> Live:
    """The same science under another name: it wants exactly the same stages."""
    file = tmp_path / "other.yaml"
    file.write_text(SWEEP.read_text(encoding="utf-8").replace("name: faults", "name: other"), encoding="utf-8")
    return Live(root=root, file=file)


def follows(live: Live) -> bool:
    """Tell whether the other sweep waits for a stage of the first."""
    return any(live.root.glob("stages/*/*/interest/other"))


@pytest.mark.proof
def test_two_sweeps_at_once_run_each_shared_stage_once(tmp_path: Path, undisturbed: Undisturbed) -> None:
    root = tmp_path / "store"
    one, two = Live(root=root), other(tmp_path, root)
    started = [one.start("--quiet"), two.start("--quiet")]
    for process in started:
        _, said = process.communicate()
        assert process.returncode == 0, said
    check_same(one, undisturbed.live, interrupted=0)


@pytest.mark.parametrize("jobs_die", [pytest.param(False, marks=pytest.mark.proof),
                                      pytest.param(True, marks=pytest.mark.slow)])
def test_a_sweep_takes_over_the_stages_of_one_that_was_killed(
    tmp_path: Path, undisturbed: Undisturbed, jobs_die: bool
) -> None:
    root = tmp_path / "store"
    one, two = Live(root=root), other(tmp_path, root)
    owner = one.start("--quiet")
    wait_for(one.training, owner)
    follower = two.start("--quiet", "--slots", "2")
    wait_for(lambda: follows(two), follower)
    assert owner.poll() is None, "the owner was done before it could be killed"
    jobs = one.jobs()
    kill(owner)
    unfinished = [name for name, (_, result) in stages(root).items() if not result]
    for job in jobs if jobs_die else []:
        os.killpg(job, signal.SIGKILL)
    _, said = follower.communicate()
    assert follower.returncode == 0, said
    assert unfinished
    found = stages(root)
    assert all(result for _, result in found.values())
    assert sum(attempts - 1 for attempts, _ in found.values()) <= int(jobs_die)
    one.finish("--quiet")
    assert one.tables() == undisturbed.live.tables()
    assert stages(root) == found
