"""A Slurm job as a sweep's controller: what it runs, who owns the sweep meanwhile, and who is refused."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import ownership
from orchestrator.__main__ import parser
from orchestrator.appoint import command
from sweeps.store.layout import Layout
from sweeps.store.ledger import fold, read_events
from tests.cluster.slurm.fakes import Fakes
from tests.orchestrator.verb_stores import SHIPPED, answer, called

PROFILE = "executor: slurm\ncontroller: {time_limit_min: 5, lead_s: 60}\n"
REFUSED = "sbatch: error: invalid partition specified: x"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """A shell in a folder with a profile, on a cluster whose clients are fakes: sbatch says 7, the queue is empty."""
    made = Fakes(folder=tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.folder}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ownership, "LOOK_S", -1.0)
    Path("cluster.yaml").write_text(PROFILE, encoding="utf-8")
    made.says("sbatch", "7\n")
    made.says("squeue", "")
    return made


def sweep(*more: object) -> tuple[object, ...]:
    return "sweep", SHIPPED / "smoke.yaml", "--root", "store", "--cluster", "cluster.yaml", *more


def test_an_impossible_band_is_refused_before_the_controllers_job_exists(
    slurm: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, said = called(capsys, *sweep("--controller", "slurm", "--set", "complexity=[0-0.5]"))
    assert code == 2 and "complexity.band 0-0.5 (normalized) cannot be met" in said
    assert slurm.calls("sbatch") == [] and not Path("store/sweeps/smoke/ledger").exists()


def test_the_job_owns_the_sweep_from_its_submission_on_and_everybody_else_is_refused(
    slurm: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, *sweep("--controller", "slurm", "--seeds", "1"))
    assert found["controller"]["job"] == "7"
    script = next(Path("store/sweeps/smoke/controller").glob("*.sh")).read_text(encoding="utf-8")
    assert f"orchestrator sweep {SHIPPED / 'smoke.yaml'} --seeds=1 --cluster=cluster.yaml" in script
    assert f"#SBATCH --chdir={Path.cwd()}" in script

    slurm.says("squeue", "7|PENDING|Priority|.\n")
    for again in (sweep("--controller", "slurm"), sweep()):
        code, _, said = called(capsys, *again)
        assert code == 5 and "controlled by Slurm job 7 (PENDING, Priority)" in said
    assert len(slurm.calls("sbatch")) == 1
    status = answer(capsys, "status", "--root", "store")["sweeps"][0]
    assert status["controlled"] == "Slurm job 7 (PENDING, Priority)" and sum(status["trials"].values()) == 3
    _, said, _ = called(capsys, "cancel", "--all", "smoke", "--root", "store")
    assert "asked Slurm job 7 (PENDING, Priority): applied within a second while it runs" in said

    slurm.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    code, _, said = called(capsys, *sweep("--controller", "slurm"))
    assert code == 5 and "Slurm does not say whether it lives" in said
    assert "Slurm does not say" in answer(capsys, "status", "--root", "store")["sweeps"][0]["controlled"]


def test_a_job_that_slurm_does_not_have_any_more_is_succeeded(
    slurm: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, *sweep("--controller", "slurm"))
    assert answer(capsys, "status", "--root", "store")["sweeps"][0]["controlled"] == ""
    slurm.says("sbatch", "8\n")
    assert answer(capsys, *sweep("--controller", "slurm"))["controller"]["job"] == "8"


def test_a_takeover_replaces_a_job_that_lives(slurm: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, *sweep("--controller", "slurm"))
    slurm.says("squeue", "7|RUNNING|None|.\n")
    slurm.says("sbatch", "8\n")
    assert answer(capsys, *sweep("--controller", "slurm", "--takeover"))["controller"]["job"] == "8"
    scripts = Path("store/sweeps/smoke/controller").glob("*.sh")
    assert not any("--takeover" in s.read_text(encoding="utf-8") for s in scripts), "each start would fence anew"


def test_a_refused_job_leaves_the_sweep_free(slurm: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    slurm.fails("sbatch", REFUSED)
    code, _, said = called(capsys, *sweep("--controller", "slurm"))
    assert code == 4 and "invalid partition" in said
    assert fold(read_events(Layout(Path("store")).sweep("smoke"))).released


def test_a_submission_in_doubt_keeps_the_sweep_until_slurm_says_that_it_has_none(
    slurm: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.fails("sbatch", "sbatch: error: Socket timed out on send/recv operation")
    code, _, said = called(capsys, *sweep("--controller", "slurm"))
    assert code == 4 and "may have been submitted all the same" in said
    slurm.says("squeue", "9|RUNNING|None|.\n")
    code, _, said = called(capsys, *sweep("--controller", "slurm"))
    assert code == 5 and "Slurm job 9 (RUNNING)" in said


def test_a_cluster_without_slurm_is_refused(slurm: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = called(capsys, "sweep", SHIPPED / "smoke.yaml", "--root", "store", "--controller", "slurm")
    assert code == 2 and "'local' is no Slurm" in said


EVERY = parser()
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12)


@given(sets=st.lists(WORDS, max_size=3), scale=st.none() | WORDS, notify=st.none() | WORDS, quiet=st.booleans(),
       slots=st.none() | st.integers(1, 99))
def test_a_jobs_command_means_the_same_arguments(
    sets: list[str], scale: str | None, notify: str | None, quiet: bool, slots: int | None
) -> None:
    given_ = EVERY.parse_args(["sweep", "/a/sweep.yaml", "--root", "/r", "--controller", "slurm", "--takeover"])
    vars(given_).update(sets=sets, scale=scale, notify=notify, quiet=quiet, slots=slots)
    again = EVERY.parse_args(command(given_))
    assert again == Namespace(**{**vars(given_), "controller": "here", "takeover": False})
