"""Training over two nodes through the command line: every ZeRO stage, and a rank that dies in the middle."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cluster.rehearsal import Rehearsal
from sweeps.store.files import read_json
from tests.cluster.slurm.test_sweeps import first_then_proofs, on
from tests.faults.conftest import Undisturbed
from tests.faults.conftest import nothing_left as nothing_left
from tests.faults.conftest import undisturbed as undisturbed
from tests.faults.live import SWEEP, Live, check_same, wait_for
from tests.faults.points import stages

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1200)]


def two_ranks(slurm: Rehearsal, folder: Path, zero: int) -> Live:
    """The small sweep with two ranks, one on each node."""
    folder.mkdir(exist_ok=True)
    file = folder / "ranks.yaml"
    text = SWEEP.read_text(encoding="utf-8")
    file.write_text(text.replace("slots: 1", f"slots: 1, ranks: 2, zero_stage: {zero}"), encoding="utf-8")
    return on(slurm, folder, file=file, nodes=2)


def pids(folder: Path, *, rank: int) -> list[int]:
    """Return the processes of this rank of a ticket below `folder`; with one rank a node, all on its node."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if b"SLURM_PROCID=%d" % rank in variables and bytes(folder) in command:
            found.append(int(process.name))
    return found


def losses(live: Live) -> dict[str, float]:
    """Return the loss of every finished pre-training stage."""
    return {p.parent.name: read_json(p)["scores"]["loss"] for p in live.root.glob("stages/pretrain/*/result.json")}


@pytest.mark.parametrize("zero", first_then_proofs([3, 1, 2]))
def test_a_rank_on_the_other_node_that_dies_costs_one_attempt(
    slurm: Rehearsal, tmp_path: Path, undisturbed: Undisturbed, request: pytest.FixtureRequest, zero: int
) -> None:
    live = two_ranks(slurm, tmp_path / "disturbed", zero)
    controller = live.start("--quiet")
    wait_for(live.training, controller)
    killed = pids(live.root, rank=1)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert killed
    _, said = controller.communicate(timeout=900)
    assert controller.returncode == 0, said
    layouts = [read_json(p)["layout"] for p in live.root.glob("stages/pretrain/*/attempts/*/execution.json")]
    assert {(each["ranks"], each["zero_stage"]) for each in layouts} == {(2, zero)}
    assert sum(attempts - 1 for attempts, _ in stages(live.root).values()) == 1
    # the same science on one rank: equal but for the order of sums
    assert losses(live) == pytest.approx(losses(undisturbed.live), rel=1e-3)
    if any(mark.name == "proof" for mark in request.node.iter_markers()):
        alone = two_ranks(slurm, tmp_path / "alone", zero)
        alone.finish("--quiet")
        check_same(live, alone, interrupted=1)
