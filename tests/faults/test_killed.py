"""kill -9 of controllers and of training jobs, with real training through the real command line."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.crash import POINTS, died, environment
from tests.faults.live import Live, check_resumed, check_same, kill, wait_for
from tests.faults.points import stages

pytestmark = pytest.mark.timeout(600)
MOMENTS = 10


def marked(cases: list[object]) -> list[object]:
    """One case in the slow set, the others as proofs."""
    return [pytest.param(case, marks=pytest.mark.proof if i else pytest.mark.slow) for i, case in enumerate(cases)]


@pytest.mark.parametrize("moment", marked(list(range(MOMENTS))))
def test_a_controller_killed_at_any_moment_is_resumed_to_the_same_tables(
    tmp_path: Path, undisturbed: Undisturbed, moment: int, record_property: Callable[[str, object], None]
) -> None:
    live = Live(root=tmp_path)
    seconds = random.Random(moment).uniform(0.5, undisturbed.seconds)
    record_property("killed_after_s", seconds)
    controller = live.start("--quiet")
    time.sleep(seconds)
    kill(controller)
    # Jobs outlive their controller and are adopted: not even the stages that were running ran again.
    check_resumed(live, undisturbed.live, interrupted=0)


@pytest.mark.parametrize("point", marked([p for p in POINTS if "checkpoint" not in p and "result" not in p]))
def test_a_controller_killed_at_a_named_point_is_resumed_to_the_same_tables(
    tmp_path: Path, undisturbed: Undisturbed, point: str
) -> None:
    armed = tmp_path / "armed"
    live = Live(root=tmp_path / "store", variables=environment(armed, "controller", POINTS[point]))
    controller = live.start("--quiet")
    controller.communicate()
    assert controller.returncode == -signal.SIGKILL
    assert died(armed)
    check_resumed(live, undisturbed.live, interrupted=0)


@pytest.mark.parametrize("point", marked(["inside a checkpoint", "between a result's files"]))
def test_a_training_job_killed_at_a_named_point_is_tried_again_by_its_controller(
    tmp_path: Path, undisturbed: Undisturbed, point: str
) -> None:
    armed = tmp_path / "armed"
    live = Live(root=tmp_path / "store", variables=environment(armed, "job", POINTS[point]))
    live.finish("--quiet")
    assert died(armed)
    again = [name for name, (attempts, _) in stages(live.root).items() if attempts == 2]
    assert len(again) == 1 and again[0].startswith("pretrain/")
    check_same(live, undisturbed.live, interrupted=1)


@pytest.mark.slow
def test_a_training_job_killed_in_mid_step_goes_on_from_its_last_checkpoint(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    live = Live(root=tmp_path)
    controller = live.start()
    wait_for(lambda: live.training(checkpoints=1), controller)
    [job] = live.jobs()
    os.killpg(job, signal.SIGKILL)
    _, said = controller.communicate()
    assert controller.returncode == 0, said
    assert "goes on from its last checkpoint" in said
    [parent] = tmp_path.glob("stages/pretrain/*/attempts/2/parent.json")
    assert f'"fingerprint":"{parent.parent.parent.parent.name}"' in parent.read_text()
    check_same(live, undisturbed.live, interrupted=1)


@pytest.mark.proof
def test_a_controller_and_its_jobs_killed_together_are_resumed(tmp_path: Path, undisturbed: Undisturbed) -> None:
    live = Live(root=tmp_path)
    controller = live.start("--quiet")
    wait_for(live.training, controller)
    kill(controller)
    for job in live.jobs():
        os.killpg(job, signal.SIGKILL)
    check_resumed(live, undisturbed.live, interrupted=1)
