"""Whole sweeps on a private Slurm, through the command line, disturbed: the tables are the local executor's, always."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.rehearsal import Rehearsal, breaks, status
from tests.faults import crash
from tests.faults.conftest import Undisturbed
from tests.faults.conftest import nothing_left as nothing_left
from tests.faults.conftest import undisturbed as undisturbed
from tests.faults.crash import Crash, died, environment
from tests.faults.live import SWEEP, Live, check_resumed, check_same, kill, wait_for
from tests.faults.points import stages, wrong_after

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

PROFILE = """executor: slurm
rehearsal: {name}
slots: 4
nodes: {nodes}
memory_mb: 3500
time_limit_min: {minutes}
lead_s: {lead}
interval_s: 0.5
grace_s: 20
"""
MOMENTS = 10
_ID = Crash(calls=("link",), path=r"/jobs/[^/]+/job\.json$")
POINTS = {
    "after the intent": crash.POINTS["after the intent"],
    "before sbatch": Crash(calls=("link",), when="after", path=r"/jobs/[^/]+/intent\.json$"),
    "after sbatch, before the id is written": _ID,
    "after the id is written": replace(_ID, when="after"),
    "inside the line of the submission": crash.POINTS["inside the line of the submission"],
}


def on(  # noqa: PLR0913 - what a profile and a command may differ in
    slurm: Rehearsal, folder: Path, *, minutes: int = 60, lead: int = 30, nodes: int = 1, file: Path = SWEEP,
    variables: dict[str, str] | None = None,
) -> Live:
    """A sweep on the rehearsal, with a profile of its own."""
    profile = folder / "rehearsed.yaml"
    profile.write_text(PROFILE.format(name=slurm.name, minutes=minutes, lead=lead, nodes=nodes), encoding="utf-8")
    return Live(root=folder / "store", file=file, flags=("--cluster", str(profile)), variables=variables or {})


@pytest.fixture
def mended(slurm: Rehearsal) -> Iterator[Rehearsal]:
    """The rehearsal, put right again after the test."""
    yield slurm
    breaks(slurm, "repair")


def first_then_proofs(cases: list[str] | list[int]) -> list[object]:
    """One case in CI, the others as proofs."""
    return [pytest.param(case, marks=pytest.mark.proof if i else ()) for i, case in enumerate(cases)]


def test_slurm_gives_the_local_tables_and_no_secret_crosses(
    slurm: Rehearsal, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    secret = "xoxb-not-for-any-file-7f3a"
    live = on(slurm, tmp_path, variables={"MY_API_TOKEN": secret})
    live.finish("--quiet")
    check_same(live, undisturbed.live, interrupted=0)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert any(p.suffix == ".pkl" for p in files) and any(p.suffix == ".sh" for p in files)
    assert [p for p in files if secret.encode() in p.read_bytes()] == []


@pytest.mark.parametrize("moment", first_then_proofs(list(range(MOMENTS))))
def test_a_controller_killed_at_any_moment_finds_its_jobs_again(
    slurm: Rehearsal, tmp_path: Path, undisturbed: Undisturbed, moment: int
) -> None:
    live = on(slurm, tmp_path)
    controller = live.start("--quiet")
    time.sleep(random.Random(moment).uniform(0.5, 1.5 * undisturbed.seconds))
    kill(controller)
    check_resumed(live, undisturbed.live)


@pytest.mark.parametrize("point", first_then_proofs([*reversed(POINTS)]))
def test_a_controller_killed_at_a_named_point_submits_nothing_twice(
    slurm: Rehearsal, tmp_path: Path, undisturbed: Undisturbed, point: str
) -> None:
    armed = tmp_path / "armed"
    live = on(slurm, tmp_path, variables=environment(armed, "controller", POINTS[point]))
    controller = live.start("--quiet")
    controller.communicate()
    assert controller.returncode == -signal.SIGKILL and died(armed)
    check_resumed(live, undisturbed.live)


@pytest.mark.proof
def test_a_node_that_dies_under_a_job_costs_one_attempt(
    mended: Rehearsal, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    """Slurm starts the job elsewhere while its old processes go on writing."""
    live = on(mended, tmp_path)
    controller = live.start("--quiet")
    wait_for(live.training, controller)
    node = next(n.name for n in status(mended).nodes if n.state.lower().startswith(("alloc", "mix")))
    breaks(mended, "kill-slurmd", node)
    breaks(mended, "down", node)
    _, said = controller.communicate(timeout=600)
    assert controller.returncode == 0, said
    assert live.tables() == undisturbed.live.tables()
    found = stages(live.root)
    assert all(result for _, result in found.values())
    assert sum(attempts - 1 for attempts, _ in found.values()) <= 1


@pytest.mark.proof
def test_two_sweeps_on_one_root_share_and_take_over(
    slurm: Rehearsal, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(SWEEP.read_text(encoding="utf-8").replace("name: faults", "name: other"), encoding="utf-8")
    one, two = on(slurm, tmp_path), on(slurm, tmp_path, file=file)
    owner = one.start("--quiet")
    wait_for(lambda: any(one.root.glob("stages/*/*/claims/1.json")), owner)
    follower = two.start("--quiet", "--slots", "4")  # the owner's job has the one slot that the sweep file gives
    wait_for(lambda: any(two.root.glob("stages/*/*/interest/other")), follower)
    kill(owner)
    _, said = follower.communicate(timeout=600)
    assert follower.returncode == 0, said
    before = stages(one.root)
    assert all(attempts == 1 and result for attempts, result in before.values())
    one.finish("--quiet")
    assert wrong_after(before, stages(one.root)) == [] and stages(one.root) == before
    assert one.tables() == undisturbed.live.tables()
