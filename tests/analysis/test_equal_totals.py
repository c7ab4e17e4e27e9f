"""Arms that were planned for other numbers of PT tokens are compared at their own ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import tables
from analysis.controls import contrasts
from analysis.load import load
from analysis.study import Study
from tests.analysis.conftest import PT, SCRATCH, Arm, SweepBuilder, _loss

ARMS = (
    SCRATCH, Arm(name="nca equal=pretrain_tokens", upstream="nca", complexity="", gain=0.1),
    Arm(name="nca equal=total_tokens", upstream="nca", gain=0.1, share=0.8),
    Arm(name="scratch_longer", upstream="scratch_longer", tokens=0, share=1.2),
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    plan = {"controls": {"scratch_longer": ""}, "claims": {}}
    root = SweepBuilder(tmp_path_factory.mktemp("totals"), arms=ARMS, domains=("web",), plan=plan).build()
    return Study(load(root, "demo"))


@pytest.mark.parametrize("arm", ARMS[1:], ids=lambda arm: arm.name)
def test_the_gain_is_taken_at_the_arms_own_end(study: Study, arm: Arm) -> None:
    expected = _loss(PT) - _loss(int(arm.share * PT)) + arm.gain
    assert study.effect("web", arm.name).mean == pytest.approx(expected, abs=0.015)
    assert study.counts("web", arm.name)["scored"] == 3


def test_what_more_of_the_domain_brings_is_a_control_of_every_arm(study: Study) -> None:
    found = {c.arm: c for c in contrasts(study, "web")}
    assert {c.control for c in found.values()} == {"scratch_longer"} and len(found) == 2
    difference = found["nca equal=pretrain_tokens"].difference
    assert difference.mean == pytest.approx(_loss(int(1.2 * PT)) - _loss(PT) + 0.1, abs=0.015)
    assert all(c.same_band for c in found.values())


def test_every_table_is_made_of_it(study: Study, tmp_path: Path) -> None:
    assert tables.write(tables.registry(), study, tmp_path)
