"""The choices of a search as what a comparison rests on: in its plan, seen to be whole, kept, told and carried."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from analysis.bundle import export, opened, verify
from orchestrator.chosen import CHOICE
from orchestrator.housekeeping import Reason, Survey
from orchestrator.plan import Planned, stage_states
from sweeps.errors import RecordError, SweepFileError
from sweeps.language.asha import SELECT
from sweeps.language.manifest import PlanStage
from sweeps.store.layout import StageFolder
from sweeps.store.records import artifacts_of
from tests.orchestrator.plans import planned
from tests.orchestrator.test_search import (
    AXES,
    COMPARED,
    RUNGS,
    best_at,
    brackets,
    comparison,
    losing,
    search,
    searched,
)
from tests.orchestrator.verb_stores import answer, called, run


def found(root: Path) -> Planned:
    """Return a search that has chosen 0.002 for scratch and 0.008 for nca."""
    with losing(best_at(scratch=2e-3, nca=8e-3)):
        return searched(search(root))


def of_kind(plan: Planned, kind: str) -> list[PlanStage]:
    return [s for s in plan.file.stages if s.kind == kind]


def select_of(plan: Planned, cell: str) -> StageFolder:
    return plan.layout.stage(SELECT, next(b.select for b in brackets(plan) if b.cell == cell))


def folded(plan: Planned) -> set[str]:
    """Return the scored ends that the choices were folded from, those that have run."""
    ends = {rung[-1] for b in brackets(plan) for c in b.candidates for rung in c.runs[0]}
    return {end for end in ends if plan.layout.stage("pretrain", end).result.exists()}


def test_what_is_trained_depends_on_the_choice_that_gave_its_rate_and_is_the_same_experiment(tmp_path: Path) -> None:
    by_cell = {b.cell: b.select for b in brackets(found(tmp_path))}
    plan = comparison(tmp_path)
    selects, states = of_kind(plan, SELECT), stage_states(plan, {})
    assert {(s.fingerprint, s.label, s.trials) for s in selects} == {
        (key, f"select {cell}", 2) for cell, key in by_cell.items()}
    assert {states[s.fingerprint].state for s in selects} == {"reuse"}
    for trial in plan.trials:
        trained = {s.fingerprint for s in plan.graph.paths[trial.id] if s.kind == "pretrain"}
        edges = {s.fingerprint: s.choices for s in plan.file.stages if s.choices}
        assert trained and all(edges[key] == (by_cell[trial.cell],) for key in trained)
    assert {s.kind for s in plan.file.stages if s.choices} == {"pretrain"}
    written = planned(tmp_path, name="one", axes={**COMPARED, "upstream": ["none"]}, fields={"pretrain.lr": 2e-3})
    of_scratch = {s.fingerprint for s in of_kind(plan, "pretrain") if s.choices == (by_cell["scratch | web"],)}
    assert of_scratch == {s.fingerprint for s in of_kind(written, "pretrain")}, "no part of the identity"
    assert not any(s.choices for s in written.file.stages) and not of_kind(written, SELECT)


def test_a_search_depends_on_no_choice(tmp_path: Path) -> None:
    plan = found(tmp_path)
    assert len(of_kind(plan, SELECT)) == 2 and not any(s.choices for s in plan.file.stages)


def shares(plan: Planned) -> set[tuple[str, str | None]]:
    """Return which files the stages `text` read: for whom they are split, and the share of a search."""
    read = [n.spec.sections["text"].values for n in plan.graph.nodes.values() if n.spec.kind == "text"]
    return {(values["split"], values["search_share"]) for values in read}


def test_a_comparison_leaves_its_search_the_files_that_it_reads(tmp_path: Path) -> None:
    apart = {**RUNGS, "documents.search_share": "30%"}
    with losing(best_at(2e-3, 8e-3)):
        searched(search(tmp_path, fields=apart))
    plan = comparison(tmp_path)
    assert shares(search(tmp_path, fields=apart)) == {("search", "30%")} and shares(plan) == {("comparison", "30%")}
    told = [d for d in plan.file.departures if d.field == "documents.search_share"]
    assert [(d.given, d.source) for d in told] == [("30%", "searched by search")]
    same = comparison(tmp_path, fields={"documents.search_share": 0.3})
    assert same.graph.nodes.keys() == plan.graph.nodes.keys()
    with pytest.raises(SweepFileError, match="documents.search_share.*20%.*the search 'search' set 30% apart; leave"):
        comparison(tmp_path, fields={"documents.search_share": "20%"})
    run(plan)
    with losing(best_at(2e-3, 8e-3)):
        searched(search(tmp_path, fields={**RUNGS, "documents.search_share": "40%"}))
    with pytest.raises(SweepFileError, match="0.002.* of its own, 30% for .* first, and now .*0.002.* own, 40%"):
        comparison(tmp_path)


def test_where_a_search_sets_nothing_apart_a_comparison_may_not_either(tmp_path: Path) -> None:
    searched(search(tmp_path))
    assert shares(comparison(tmp_path)) == {("comparison", None)}
    with pytest.raises(SweepFileError, match="the search 'search' set nothing apart"):
        comparison(tmp_path, fields={"documents.search_share": "20%"})


@pytest.mark.parametrize("damaged", ["choice", "spec", "result"])
def test_a_choice_that_was_changed_stops_a_plan_and_says_what_to_do(tmp_path: Path, damaged: str) -> None:
    plan = found(tmp_path)
    stage = select_of(plan, "scratch | web")
    path = {"choice": artifacts_of(stage) / CHOICE, "spec": stage.spec, "result": stage.result}[damaged]
    path.write_text(path.read_text().replace("0.002", "0.004").replace('"attempt":1', '"attempt":2')
                    .replace("rung 0", "rung 9"))
    with pytest.raises(RecordError, match=f"'search' chose for scratch . web was changed.*remove {stage.path}.*run it "
                                          "again: orchestrator sweep"):
        comparison(tmp_path)


def test_gc_keeps_what_a_comparison_rests_on_whatever_becomes_of_its_search(tmp_path: Path) -> None:
    plan = found(tmp_path)
    run(comparison(tmp_path))
    kept = folded(plan) | {b.select for b in brackets(plan)}
    everything = {key for key, n in plan.graph.nodes.items() if plan.layout.stage(n.spec.kind, key).path.exists()}
    shutil.rmtree(plan.layout.sweep("search").path)
    orphans = orphaned(plan)
    assert len(kept) > 4 and not orphans & kept, "choices, and the ends that they were folded from"
    assert orphans == everything - kept - comparison_stages(tmp_path) - continued(plan, kept)
    shutil.rmtree(plan.layout.sweep("t").path)
    assert orphaned(plan) >= kept, "nobody refers to it"


def orphaned(plan: Planned) -> set[str]:
    return {i.path.name for i in Survey(plan.layout).items() if i.reason is Reason.ORPHAN}


def comparison_stages(root: Path) -> set[str]:
    raw = json.loads((root / "sweeps" / "t" / "plan.json").read_text())
    return {s["fingerprint"] for s in raw["stages"]}


def continued(plan: Planned, ends: set[str]) -> set[str]:
    """Return the trunk points whose rows the ends continue."""
    return {i.fingerprint for end in ends if end in plan.graph.nodes for i in plan.graph.nodes[end].spec.inputs
            if i.role == "trunk"}


def test_gc_refuses_where_nobody_can_tell_what_a_choice_was_folded_from(tmp_path: Path) -> None:
    plan = found(tmp_path)
    run(comparison(tmp_path))
    select_of(plan, "scratch | web").spec.unlink()
    with pytest.raises(RecordError, match="spec.json is missing or damaged; remove the folder"):
        Survey(plan.layout)


def test_why_tells_which_choice_gave_a_stage_its_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = found(tmp_path)
    compared = comparison(tmp_path)
    run(compared)
    path = artifacts_of(select_of(plan, "nca 60-75 | web")) / CHOICE
    stage = next(s for s in of_kind(compared, "pretrain") if "nca" in s.label)
    line = "pretrain.lr = 0.008: chosen by search search for nca 60-75 | web, 0.0000 nats at the last of 3 rungs"
    _, out, _ = called(capsys, "why", stage.fingerprint, "--root", tmp_path)
    assert line in out and str(path) in out
    [told] = answer(capsys, "why", stage.fingerprint, "--root", tmp_path)["stage"]["facts"]["chosen"]
    assert told["search"] == "search" and told["values"] == {"pretrain.lr": 0.008} and told["path"] == str(path)
    assert [len(c["losses"]) for c in told["candidates"]] == [1, 1, 2, 3]
    _, out, _ = called(capsys, "why", "nca_60-75-web-s0", "--root", tmp_path)
    assert line in out, "of a trial too"
    shutil.rmtree(path.parents[3])
    _, out, _ = called(capsys, "why", stage.fingerprint, "--root", tmp_path)
    assert "chosen by search search for nca 60-75 | web; stage select/" in out and "is not complete" in out


def test_why_tells_of_a_choice_that_was_made_anew_and_is_another_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = found(tmp_path)
    compared = comparison(tmp_path)
    run(compared)
    for key in {b.select for b in brackets(plan)} | folded(plan):
        shutil.rmtree(next(plan.layout.stages.glob(f"*/{key}")))
    with losing(best_at(scratch=1e-3, nca=1e-3)):
        searched(search(tmp_path))
    stage = next(s for s in of_kind(compared, "pretrain") if "nca" in s.label)
    _, out, _ = called(capsys, "why", stage.fingerprint, "--root", tmp_path)
    assert ("pretrain.lr = 0.008: chosen by search search for nca 60-75 | web; "
            "made anew since, it says {'pretrain.lr': 0.001}: ") in out


def test_the_next_best_is_the_one_that_ran_as_far(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    axes: dict[str, Any] = {**AXES, "pretrain.lr": [2e-3, 4e-3], "upstream": ["none"]}
    with losing(best_at(scratch=2e-3, nca=2e-3)):
        searched(search(tmp_path, axes=axes, fields={"pretrain.ends": ["100%"]}))
    compared = comparison(tmp_path, axes={**COMPARED, "upstream": ["none"]})
    run(compared)
    _, out, _ = called(capsys, "why", of_kind(compared, "pretrain")[0].fingerprint, "--root", tmp_path)
    assert "0.0000 nats at the last of 1 rungs, before lr=0.004 with 1.0000: " in out


def test_a_bundle_of_a_comparison_holds_the_choices_that_it_rests_on(tmp_path: Path) -> None:
    plan = found(tmp_path / "store")
    run(comparison(tmp_path / "store"))
    export(plan.layout.root, "t", tmp_path / "t.tar.gz")
    manifest, wrong = verify(tmp_path / "t.tar.gz")
    assert not wrong
    held = {name.split("/")[3] for name in manifest["files"] if name.endswith(CHOICE)}
    assert held == {b.select for b in brackets(plan)}
    (tmp_path / "open").mkdir()
    _, inside, _ = opened(tmp_path / "t.tar.gz", tmp_path / "open")
    assert {c for s in inside.stages for c in s.choices} == held
