"""Several stores read as one: what ran where makes no difference to a number, and nothing is dropped uncounted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from analysis.load import load
from analysis.stores import read_plan
from analysis.study import Study
from analysis.tables import registry, write_tables
from orchestrator.__main__ import main
from sweeps.errors import UsageError
from sweeps.store.layout import Layout
from tests.analysis.conftest import Fate, SweepBuilder

WEB = ("web",)


def part(*seeds: int) -> Fate:
    """Only these seeds have run."""
    return lambda trial, role, tokens: "done" if int(trial.rpartition("s")[2]) in seeds else "absent"


def files_of(root: Path) -> dict[str, tuple[int, int]]:
    """Everything in a store, with size and time of change."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in root.rglob("*")}


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A sweep whole, its seeds 0 and 2 on one machine, seed 1 on another."""
    folder = tmp_path_factory.mktemp("halves")
    return (SweepBuilder(folder / "whole", domains=WEB).build(),
            SweepBuilder(folder / "here", domains=WEB, fate=part(0, 2)).build(),
            SweepBuilder(folder / "there", domains=WEB, fate=part(1)).build())


def test_two_halves_give_the_tables_of_the_whole(halves: tuple[Path, Path, Path], tmp_path: Path) -> None:
    whole, here, there = halves
    for roots in ([here, there], [there, here]):
        found = load(roots, "demo")
        assert found.curves.equals(load(whole, "demo").curves)
        made = {p.name: p.read_bytes() for p in write_tables(whole, "demo", tmp_path / "a", Study(found))}
        assert made == {p.name: p.read_bytes() for p in write_tables(whole, "demo", tmp_path / "b")}


def test_seeds_that_only_one_store_has_planned_are_there_too(tmp_path: Path) -> None:
    small, large = (SweepBuilder(tmp_path / str(n), domains=WEB, seeds=n).build() for n in (2, 4))
    plan = read_plan([small, large], "demo")
    assert {t.seed for t in plan.trials} == {0, 1, 2, 3}
    assert {s.fingerprint: s.trials for s in plan.stages} == {
        s.fingerprint: s.trials for s in read_plan(large, "demo").stages}, "shared stages are counted once"
    found = load([small, large], "demo")
    assert len(found.trials) == 20 and set(found.trials["status"]) == {"scored"}


def test_a_second_run_of_a_stage_is_counted_and_its_copy_is_not(tmp_path: Path) -> None:
    first = SweepBuilder(tmp_path / "first", domains=WEB, seeds=1).build()
    again = SweepBuilder(tmp_path / "again", domains=WEB, seeds=1, noise=0.1).build()
    shutil.copytree(first, tmp_path / "copy")
    copied, twice = (Study(load([first, root], "demo")) for root in (tmp_path / "copy", again))
    assert registry()["missing"].build(copied).empty
    missing = registry()["missing"].build(twice)
    assert set(missing["status"]) == {"other copies"} and missing["scored"].all()
    assert set(missing["what"]) == {"end"} and (missing["count"] == 3).all(), "three ends a trial have other losses"
    assert twice.records.curves.equals(copied.records.curves), "the first store's numbers count"


def test_protocols_are_mixed_only_where_somebody_asks_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fair = SweepBuilder(tmp_path / "fair", domains=WEB).build()
    paper = SweepBuilder(tmp_path / "paper", domains=WEB, plan={"protocol": "paper"}).build()
    both = ["--root", str(fair), "--root", str(paper)]
    assert main(["table", "convergence", "demo", *both]) == 2
    told = capsys.readouterr().err
    assert "protocol fair, scale tiny" in told and "protocol paper" in told and "--mixed-protocols" in told
    assert main(["table", "convergence", "demo", *both, "--mixed-protocols", "--json"]) == 0
    arms = {row["arm"] for row in json.loads(capsys.readouterr().out)["rows"]}
    assert {"scratch", "scratch (paper tiny)", "nca 30-45", "nca 30-45 (paper tiny)"} <= arms
    mixed = Study(load([fair, paper], "demo", read_plan([fair, paper], "demo", mixed=True)))
    assert mixed.baseline_of("web", "nca 30-45 (paper tiny)") == "scratch (paper tiny)"


def test_another_experiment_under_the_name_of_a_trial_is_refused(tmp_path: Path) -> None:
    one = SweepBuilder(tmp_path / "one", domains=WEB, seeds=1).build()
    other = SweepBuilder(tmp_path / "other", domains=WEB, seeds=1, cosine=True).build()
    with pytest.raises(UsageError, match="not the same experiment.*orchestrator compare"):
        read_plan([one, other], "demo")


def test_made_up_results_stay_among_themselves(tmp_path: Path) -> None:
    real, made_up = (SweepBuilder(tmp_path / n, domains=WEB, seeds=1).build() for n in ("real", "made_up"))
    Layout(made_up).simulated.touch()
    with pytest.raises(UsageError, match="made up by the memory executor"):
        load([real, made_up], "demo")
    assert load([made_up], "demo").simulated


def test_no_store_is_written_to_when_a_report_of_several_is_made(
    halves: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, here, there = halves
    before = files_of(here) | files_of(there)
    roots = ["--root", str(here), "--root", str(there)]
    assert main(["report", "demo", *roots]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert main(["report", "demo", *roots, "--out", str(tmp_path / "out")]) == 0
    assert "15 of 15 trials scored" in capsys.readouterr().out
    assert (tmp_path / "out" / "report.html").is_file()
    assert files_of(here) | files_of(there) == before


def test_an_unknown_sweep_names_what_all_stores_have(halves: tuple[Path, Path, Path]) -> None:
    with pytest.raises(UsageError, match=r"under .*here or .*there.*Did you mean 'demo'"):
        load(halves[1:], "dem")
