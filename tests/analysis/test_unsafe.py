"""What rests on programs that ran in no sandbox is marked where no column says so: picture, comparison, power."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.compare import Side, compare
from analysis.compare_text import text_of
from analysis.downstream import UNSAFE_MARK, UNSAFE_MEANS, unsafe, unsafe_mark
from analysis.figures import registry
from analysis.load import load
from analysis.study import Study
from analysis.tables import registry as tables
from orchestrator.__main__ import main
from sweeps.language.ladder import UNSAFE
from tests.analysis.test_downstream import NCA, SCRATCH, _asked, drawn, programs, table, write_items  # noqa: F401
from workloads.sandbox import kinds


def sweep(root: Path, *, kind: str) -> Study:
    """Three seeds of two arms; of one of them the programs ran in `kind`."""
    own = {arm: [drawn(shift, seed) for seed in range(3)] for arm, shift in ((SCRATCH, 0.0), (NCA, 0.1))}
    rows = {arm: [{name.replace("cloze", "pass@1"): values for name, values in of.items()} for of in seeds]
            for arm, seeds in own.items()}
    ran = {(NCA, 1): kind}
    table(root, {arm: [programs(ran.get((arm, seed), "bubblewrap"), **{"pass@1": sum(of["pass@1"]) / 40})
                       for seed, of in enumerate(seeds)] for arm, seeds in rows.items()})
    for trial in load(root, "demo").plan.trials:
        write_items(root, trial.id, "downstream", rows[trial.arm][trial.seed])
    return Study(load(root, "demo"))


@pytest.mark.parametrize("kind", [UNSAFE, "namespaces"])
def test_one_seed_without_a_sandbox_marks_what_rests_on_it_and_nothing_else(tmp_path: Path, kind: str) -> None:
    study = sweep(tmp_path, kind=kind)
    assert unsafe(study) == ({("web", NCA, "t.all.pass@1")} if kind == UNSAFE else set())
    mark = UNSAFE_MARK if kind == UNSAFE else ""
    assert unsafe_mark(study, "web", "t.all.pass@1") == unsafe_mark(study, "web", "t.all.pass@1", NCA) == mark
    assert not unsafe_mark(study, "web", "t.all.pass@1", SCRATCH)
    assert not unsafe_mark(study, "web", "t.all.cloze"), "likelihoods run no program"


def test_a_picture_marks_it_and_says_what_the_mark_means(tmp_path: Path) -> None:
    forest = registry()["downstream_forest"]
    assert UNSAFE_MEANS in forest.caption
    marked, = forest.build(sweep(tmp_path / "a", kind=UNSAFE))
    clean, = forest.build(sweep(tmp_path / "b", kind="bubblewrap"))
    assert f"t, pass@1{UNSAFE_MARK}" in marked.description and UNSAFE_MARK in marked.svg
    assert f"t, cloze{UNSAFE_MARK}" not in marked.description
    assert UNSAFE_MARK not in clean.description and UNSAFE_MARK not in clean.svg


def test_a_comparison_marks_the_side_of_which_it_is_true(tmp_path: Path) -> None:
    one, two = (Side(name=kind, study=sweep(tmp_path / kind, kind=kind)) for kind in ("bubblewrap", UNSAFE))
    found = compare(one, two)
    assert [(n.arm, n.what, n.unsafe_a) for n in found.numbers if n.unsafe_b] == [(NCA, "t.all.pass@1", False)]
    text = " ".join(text_of(found).split())
    assert text.count(f"(n=3){UNSAFE_MARK}") == 1 and UNSAFE_MEANS in text


def test_the_table_of_difficulty_says_what_any_arm_ran_in(tmp_path: Path) -> None:
    rows = tables()["difficulty"].build(sweep(tmp_path, kind=UNSAFE))
    assert set(rows["sandbox"]) == {"bubblewrap, unsafe"}


def test_power_marks_what_a_pilot_without_a_sandbox_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in (UNSAFE, "bubblewrap"):
        sweep(tmp_path / kind, kind=kind)
        ask = ["power", "demo", "--root", str(tmp_path / kind), "--rung", "pass@1"]
        assert main([*ask, "--json"]) == 0
        assert [task["unsafe"] for task in json.loads(capsys.readouterr().out)["tasks"]] == [kind == UNSAFE]
        assert main(ask) == 0
        text = capsys.readouterr().out
        assert (f"t, web{UNSAFE_MARK}: 40 items" in text) == (UNSAFE_MEANS in text) == (kind == UNSAFE)


def test_the_name_in_the_records_is_that_of_the_kind() -> None:
    assert kinds.UNSAFE.name == UNSAFE
