"""A search on the memory executor: who goes on, who leaves, what is chosen, and what a comparison makes of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analysis
from analysis.bundle import export, verify
from analysis.study import study
from analysis.tables import registry
from cluster.executors import _synthetic
from cluster.executors.memory import MemoryExecutor
from orchestrator.board import Board, Status
from orchestrator.choices import fold, read_choices, table
from orchestrator.chosen import CHOICE
from orchestrator.estimate import summary
from orchestrator.housekeeping import Survey
from orchestrator.plan import Planned, stage_states
from orchestrator.progress import Progress
from orchestrator.reconciler import Reconciler
from orchestrator.watch import look
from sweeps.errors import SweepFileError
from sweeps.language.asha import SELECT, Bracket
from sweeps.language.stage import StageSpec
from sweeps.store import files
from sweeps.store.ledger import begin_term
from sweeps.store.records import artifacts_of, read_result
from tests.orchestrator.plans import planned
from tests.orchestrator.verb_stores import answer, called, run

LR = [1e-3, 2e-3, 4e-3, 8e-3]
AXES: dict[str, Any] = {"upstream": ["none", "nca"], "complexity": ["60-75"], "domain": ["web"], "seed": [1000],
                        "pretrain.lr": LR}
RUNGS = {"pretrain.ends": ["25%", "50%", "100%"]}
COMPARED: dict[str, Any] = {"upstream": ["none", "nca"], "complexity": ["60-75"], "domain": ["web"], "seed": [0, 1]}


def search(root: Path, **changes: Any) -> Planned:
    return planned(root, **{"name": "search", "search": {"eta": 2}, "axes": AXES, "fields": RUNGS, **changes})


def comparison(root: Path, **changes: Any) -> Planned:
    return planned(root, **{"name": "t", "searched": "search", "axes": COMPARED, **changes})


@pytest.mark.parametrize("seeds", [[1000], [1000, 1001, 1002]])
def test_a_search_on_few_seeds_is_told_so(tmp_path: Path, seeds: list[int]) -> None:
    plan = search(tmp_path, axes=AXES | {"seed": seeds})
    warned = summary(plan, stage_states(plan, {}))["warnings"]
    assert any("search on 1 of 3 seeds" in line for line in warned) is (len(seeds) == 1)


@contextmanager
def losing(loss: Callable[[StageSpec], float | None]) -> Iterator[None]:
    """Let simulated ends have these losses; None: made up as ever."""
    true = _synthetic.scores

    def scores(spec: StageSpec, fingerprint: str) -> dict[str, float]:
        said = loss(spec) if spec.kind == "pretrain" else None
        return true(spec, fingerprint) if said is None else {"loss": said}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_synthetic, "scores", scores)
        yield


def lr_of(spec: StageSpec) -> float:
    return float(spec.sections["optim"].values["lr"])


def best_at(scratch: float, nca: float) -> Callable[[StageSpec], float]:
    """Losses that are lowest at these learning rates."""
    return lambda spec: abs(math.log2(lr_of(spec) / (nca if len(spec.inputs) > 1 and any(
        i.role == "body" for i in spec.inputs) else scratch)))


def searched(plan: Planned) -> Planned:
    """Run a search to its end, as `sweep` does."""
    run(plan)
    fold(plan)
    return plan


def brackets(plan: Planned) -> tuple[Bracket, ...]:
    assert plan.file.search is not None
    return plan.file.search.brackets


def choices(plan: Planned) -> dict[str, Any]:
    return {b.cell: (artifacts_of(plan.layout.stage(SELECT, b.select)) / CHOICE).read_text() for b in brackets(plan)}


def attempts(plan: Planned, key: str) -> int:
    folder = plan.layout.stage(plan.graph.nodes[key].spec.kind, key).attempts
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_each_arm_gets_its_own_value_and_losers_do_not_go_on(tmp_path: Path) -> None:
    plan = search(tmp_path)
    with losing(best_at(scratch=2e-3, nca=8e-3)):
        searched(plan)
    found = {c.cell: c for c in read_choices(plan.layout, "search")}
    assert found["scratch | web"].values == {"pretrain.lr": 2e-3} and found["scratch | web"].boundary == ()
    assert found["nca 60-75 | web"].values == {"pretrain.lr": 8e-3}
    assert found["nca 60-75 | web"].boundary == ("pretrain.lr",), "the largest of the grid: the best may lie beyond"
    for bracket in brackets(plan):
        ran = [sum(attempts(plan, c.runs[0][rung][-1]) for c in bracket.candidates) for rung in range(3)]
        assert ran[0] == 4 and 2 <= ran[1] <= 4 and 1 <= ran[2] <= 2
    ends = {t: s for t, s in look(plan.layout, "search").trials.items()}
    assert ends["scratch_lr=0.002-web-s1000"] == "done" and ends["scratch_lr=0.008-web-s1000"] == "withheld"


@pytest.mark.parametrize(("rates", "at"), [([1e-3, 2e-3, 4e-3, 8e-3], 1), ([1e-3, 2e-3], 1), ([2e-3], None)])
def test_a_comparison_knows_by_how_much_a_choice_led_and_what(tmp_path: Path, rates: list[float], at: int | None
                                                              ) -> None:
    """Seed by seed, at the last rung that had two candidates."""
    seeds = [1000, 1001, 1002]
    plan = search(tmp_path, axes=AXES | {"seed": seeds, "pretrain.lr": rates})

    def loss(spec: StageSpec) -> float:
        seed, rung = seeds.index(spec.sections["seed"].values["seed"]), spec.sections["segment"].values["end_tokens"]
        return abs(math.log2(lr_of(spec) / 2e-3)) * (1 + seed) + 1 / rung

    with losing(loss):
        searched(plan)
    found = {c.cell: c for c in comparison(tmp_path).file.searched}["scratch | web"]
    assert found.values == {"pretrain.lr": 2e-3} and found.seeds == tuple(seeds)
    assert found.runner_up == ({} if at is None else {"pretrain.lr": 1e-3})
    assert found.lead == pytest.approx(() if at is None else (1.0, 2.0, 3.0))


def test_with_one_slot_nothing_runs_ahead(tmp_path: Path) -> None:
    plan = search(tmp_path, run={"cluster": "memory", "pack": 1})
    ledger, state = begin_term(plan.layout.sweep("search"))
    reconciler = Reconciler(plan, MemoryExecutor(slots=1), ledger, state, lambda notice: None)
    for _ in range(400):
        reconciler.step()
    assert reconciler.finished
    for bracket in brackets(plan):
        assert [sum(attempts(plan, c.runs[0][rung][-1]) for c in bracket.candidates) for rung in range(3)] == [4, 2, 1]
    expected = {key for key, s in stage_states(search(tmp_path / "fresh"), {}).items() if s.state == "run"}
    ran = {key for key in plan.graph.nodes if attempts(plan, key)}
    assert len(expected) == len(ran) + len(brackets(plan)), "a plan counts on as many, and on the choices"


def test_a_choice_is_a_stage_with_the_whole_grid_in_it(tmp_path: Path) -> None:
    plan = searched(search(tmp_path))
    for bracket in brackets(plan):
        stage = plan.layout.stage(SELECT, bracket.select)
        result = read_result(stage)
        assert result is not None and set(result.scores) == {"pretrain.lr"}
        spec = json.loads(stage.spec.read_text())
        assert [i["fingerprint"] for i in spec["inputs"]] == [
            stages[-1] for c in bracket.candidates for stages in c.runs[0]]
        raw = json.loads(choices(plan)[bracket.cell])
        assert [c["values"]["pretrain.lr"] for c in raw["candidates"]] == LR and raw["seeds"] == [1000]
        assert sorted(len(c["losses"]) for c in raw["candidates"]) == [1, 1, 2, 3]
    before = choices(plan)
    searched(search(tmp_path))
    assert choices(plan) == before and all(
        len(list(plan.layout.stage(SELECT, b.select).attempts.iterdir())) == 1 for b in brackets(plan))
    assert not list(Survey(plan.layout).items()), "nothing of it is garbage"
    assert any("pretrain.lr = " in line for line in table(plan.layout, plan.file.search))  # type: ignore[arg-type]


def test_cells_do_not_meet(tmp_path: Path) -> None:
    """However bad one arm's losses are, as many of its candidates go on as of the other's."""
    one, two = search(tmp_path / "one"), search(tmp_path / "two")
    with losing(best_at(2e-3, 4e-3)):
        searched(one)
    with losing(lambda s: best_at(2e-3, 4e-3)(s) + (100 if any(i.role == "body" for i in s.inputs) else 0)):
        searched(two)
    assert choices(one)["scratch | web"] == choices(two)["scratch | web"]
    chosen = [{c.cell: c.values for c in read_choices(plan.layout, "search")} for plan in (one, two)]
    assert chosen[0] == chosen[1]


def test_what_a_loser_runs_is_asked_to_leave(tmp_path: Path) -> None:
    """The first two candidates end, the better of them runs ahead, and the other two beat it."""
    plan = search(tmp_path, axes={**AXES, "upstream": ["none"]}, run={"cluster": "memory", "pack": 1})
    [bracket] = brackets(plan)
    files.replace(plan.layout.sweep("search").plan, plan.file.model_dump_json())
    ledger, state = begin_term(plan.layout.sweep("search"))
    executor = MemoryExecutor(slots=8, seconds=math.inf)
    reconciler = Reconciler(plan, executor, ledger, state, lambda notice: None)
    rung_2 = {s for c in bracket.candidates for s in c.runs[0][1]}

    def advance(wanted: Callable[[str], bool]) -> None:
        for _ in range(20):
            reconciler.step()
            for job in list(reconciler._jobs):
                if job.stages and all(map(wanted, job.stages)):
                    while executor.advance(job.handle) is not None:
                        pass
        reconciler.step()

    with losing(lambda spec: -lr_of(spec)):  # the larger, the better
        late = {s for n in (2, 3) for s in bracket.candidates[n].runs[0][0]}
        advance(lambda key: key not in rung_2 | late)
        ahead = [k for k in rung_2 if reconciler.board.status[k] is Status.RUNNING]
        assert ahead and all(k in bracket.candidates[1].runs[0][1] for k in ahead)
        for job in reconciler._jobs:
            if set(job.stages) & set(ahead):
                executor.advance(job.handle)  # it has begun
        advance(lambda key: key not in rung_2)
        assert all(job.asked for job in reconciler._jobs if set(job.stages) & set(ahead)), "at once"
        assert {reconciler.board.status[k] for k in bracket.candidates[1].runs[0][1]} == {Status.WITHHELD}
        assert "it lost at rung 1 of 3" in reconciler.board.reasons[ahead[0]]
        advance(lambda key: True)
    assert reconciler.finished
    fold(plan)
    assert read_choices(plan.layout, "search")[0].values == {"pretrain.lr": 8e-3}
    ledger.close()
    items = list(Survey(plan.layout).items())
    assert {i.path.parents[1].name for i in items} == set(ahead), "what it left may go"


def test_a_diverged_candidate_loses_and_where_all_do_there_is_no_choice(tmp_path: Path) -> None:
    def fail(spec: StageSpec, attempt: int) -> str:
        scratch = spec.kind == "pretrain" and not any(i.role in ("body", "trunk") for i in spec.inputs)
        bad = scratch or (spec.kind == "pretrain" and lr_of(spec) > 2e-3)
        return "diverged" if bad else ""

    plan = search(tmp_path)
    with losing(best_at(8e-3, 8e-3)):
        run(plan, fail)
    fold(plan)
    found = {c.cell: c.values for c in read_choices(plan.layout, "search")}
    assert found == {"scratch | web": {}, "nca 60-75 | web": {"pretrain.lr": 2e-3}}
    with pytest.raises(SweepFileError, match="every candidate of scratch . web diverged"):
        comparison(tmp_path)


def test_a_candidate_that_fails_leaves_its_cell_undecided_and_retry_decides_it(tmp_path: Path) -> None:
    def fail(spec: StageSpec, attempt: int) -> str:
        return "ValueError" if spec.kind == "pretrain" and lr_of(spec) == 4e-3 else ""

    plan = search(tmp_path, axes={**AXES, "upstream": ["none"]})
    run(plan, fail)
    fold(plan)
    states = look(plan.layout, "search").trials
    assert states["scratch_lr=0.004-web-s1000"] == "failed"
    board = Board(plan)
    assert not read_result(plan.layout.stage(SELECT, brackets(plan)[0].select))
    assert board.waiting, "it goes on when the command is run again"
    with pytest.raises(SweepFileError, match="it has not chosen yet for scratch . web .1 of 1 cells.; run it: orch"):
        comparison(tmp_path, axes={**COMPARED, "upstream": ["none"]})
    searched(search(tmp_path, axes={**AXES, "upstream": ["none"]}))
    assert read_choices(plan.layout, "search")


@settings(max_examples=10)
@given(st.data())
def test_the_same_is_chosen_wherever_the_controller_dies(data: Any) -> None:
    with TemporaryDirectory() as one, TemporaryDirectory() as two:
        whole = searched(search(Path(one)))
        plan = search(Path(two), run={"cluster": "memory", "pack": data.draw(st.integers(1, 9))})
        executor = MemoryExecutor(slots=data.draw(st.integers(1, 6)))
        for steps in (*data.draw(st.lists(st.integers(0, 9), max_size=4)), 400):
            ledger, state = begin_term(plan.layout.sweep("search"), takeover=True)
            files.replace(plan.layout.sweep("search").plan, plan.file.model_dump_json())
            reconciler = Reconciler(plan, executor, ledger, state, lambda notice: None)
            progress = Progress(plan.file.trials, reconciler.board)
            for _ in range(steps):
                reconciler.step()
            fold(plan)
        progress.update()
        assert reconciler.finished and progress.all_ended
        assert choices(plan) == choices(whole)


# -- a comparison -----------------------------------------------------------------------------------------------------


def test_a_comparison_is_refused_until_its_search_is_complete(tmp_path: Path) -> None:
    with pytest.raises(SweepFileError, match="searched.*no sweep of this name has run.*orchestrator sweep FILE"):
        comparison(tmp_path)
    plan = search(tmp_path)
    run(plan, steps=2)
    fold(plan)
    with pytest.raises(SweepFileError, match="it has not chosen yet for .*of 2 cells"):
        comparison(tmp_path)
    searched(search(tmp_path))
    assert len(comparison(tmp_path).trials) == 4
    run(planned(tmp_path, name="plain"))
    with pytest.raises(SweepFileError, match="is no search"):
        comparison(tmp_path, searched="plain")


def test_a_comparison_trains_each_arm_with_its_own_value_and_says_so(tmp_path: Path) -> None:
    with losing(best_at(scratch=2e-3, nca=8e-3)):
        searched(search(tmp_path))
    plan = comparison(tmp_path)
    rates = {t.arm: {lr_of(plan.graph.nodes[s.fingerprint].spec) for s in plan.graph.paths[t.id]
                     if s.kind == "pretrain"} for t in plan.trials}
    assert rates == {"scratch": {2e-3}, "nca 60-75": {8e-3}}
    assert {(c.cell, c.values["pretrain.lr"], c.sweep) for c in plan.file.searched} == {
        ("scratch | web", 2e-3, "search"), ("nca 60-75 | web", 8e-3, "search")}
    said = {d.field: d for d in plan.file.departures}
    assert said["pretrain.lr"].source == "searched by search"
    assert said["pretrain.lr"].given == {"scratch | web": 2e-3, "nca 60-75 | web": 8e-3}
    assert said["pretrain.lr"].text == "0.002 (1 of the cells), 0.008 (1)"
    assert said["transfer.embedding_init"].source == "not yet searched"


def test_a_value_that_was_searched_makes_the_stages_that_it_makes_when_written(tmp_path: Path) -> None:
    with losing(best_at(2e-3, 2e-3)):
        searched(search(tmp_path))
    written = planned(tmp_path, axes=COMPARED, fields={"pretrain.lr": 2e-3})
    assert comparison(tmp_path).graph.nodes.keys() == written.graph.nodes.keys()


def test_a_comparison_shares_no_seed_with_its_search(tmp_path: Path) -> None:
    searched(search(tmp_path))
    with pytest.raises(SweepFileError, match="axes.seed.*1000.*has seen this seed"):
        comparison(tmp_path, axes={**COMPARED, "seed": [0, 1000]})


def test_no_stage_that_reads_held_out_text_is_shared(tmp_path: Path) -> None:
    found = searched(search(tmp_path))
    kinds = [{k for k, n in plan.graph.nodes.items() if n.spec.kind in ("text", "corpus", "pretrain")}
             for plan in (found, comparison(tmp_path))]
    assert kinds[0] and not kinds[0] & kinds[1]


@pytest.mark.parametrize(("changes", "expected"), [
    ({"axes": {**COMPARED, "complexity": ["30-45"]}}, "did not search nca 30-45 . web; it has scratch . web, nca 60"),
    ({"fields": {"pretrain.tokens": "2x"}}, "searched scratch . web with 299k pre-training tokens, here they are"),
    ({"axes": {**COMPARED, "token_budget": ["2x"]}}, "searched nca 60-75 . web with 299k upstream tokens, here they"),
    ({"fields": {"pretrain.weight_decay": 0.1}}, "searched another scratch . web: other fields"),
])
def test_a_choice_serves_only_the_cell_that_was_searched(tmp_path: Path, changes: Any, expected: str) -> None:
    searched(search(tmp_path))
    with pytest.raises(SweepFileError, match=expected):
        comparison(tmp_path, **changes)


def test_a_comparison_that_has_begun_keeps_its_choice(tmp_path: Path) -> None:
    with losing(best_at(2e-3, 2e-3)):
        searched(search(tmp_path))
    run(comparison(tmp_path))
    with losing(lambda spec: -1.0):  # the older candidates have run, and are reused
        searched(search(tmp_path, axes={**AXES, "pretrain.lr": [*LR, 16e-3]}))
    with pytest.raises(SweepFileError, match="chose .*0.002.* when this sweep was run first, and now .*0.016"):
        comparison(tmp_path)
    assert comparison(tmp_path, name="anew").file.searched[0].values == {"pretrain.lr": 16e-3}


def test_verbs_say_what_became_of_a_loser(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = search(tmp_path)
    with losing(best_at(1e-3, 1e-3)):
        searched(plan)
    status = answer(capsys, "status", "--root", tmp_path)["sweeps"][0]
    assert status["trials"]["withheld"] >= 4 and status["trials"]["done"] == 2
    told = answer(capsys, "why", "scratch_lr=0.008-web-s1000", "--root", tmp_path)
    assert told["state"] == "withheld" and "lost at rung 1 of 3" in told["decisive"]["reason"]
    code, out, _ = called(capsys, "report", "search", "--root", tmp_path)
    assert code == 0 and "scratch | web: pretrain.lr = 0.001  (pretrain.lr on the edge of the grid" in out


# -- a bundle ---------------------------------------------------------------------------------------------------------


def test_a_bundle_of_a_search_holds_its_choices_and_rungs_and_verifies_them(tmp_path: Path) -> None:
    plan = search(tmp_path / "store")
    with losing(best_at(scratch=2e-3, nca=8e-3)):
        searched(plan)
    export(plan.layout.root, "search", tmp_path / "search.tar.gz")
    manifest, wrong = verify(tmp_path / "search.tar.gz")
    assert not wrong and {"tables/search.csv", "tables/cost.csv", "tables/departures.csv"} == {
        name for name in manifest["files"] if name.startswith("tables/")}
    frame = analysis.load(tmp_path / "search.tar.gz").search()
    chosen = frame[frame["outcome"] == "chosen"].set_index("cell")
    assert chosen.loc["scratch | web", "candidate"] == "lr=0.002" and chosen.loc["scratch | web", "edge"] == ""
    assert chosen.loc["nca 60-75 | web", "candidate"] == "lr=0.008"
    assert chosen.loc["nca 60-75 | web", "edge"] == "pretrain.lr"
    of_scratch = frame[frame["cell"] == "scratch | web"]
    assert sorted(of_scratch.groupby("candidate").size()) == [1, 1, 2, 3], "none above the rung at which it lost"
    assert list(of_scratch["outcome"]).count("lost") == 3 and set(of_scratch["rung"]) == {1, 2, 3}


def test_a_choice_that_its_losses_do_not_make_is_named(tmp_path: Path) -> None:
    plan = search(tmp_path / "store")
    with losing(best_at(scratch=2e-3, nca=8e-3)):
        searched(plan)
    stage = plan.layout.stage(SELECT, brackets(plan)[0].select)
    result = json.loads(stage.result.read_text())
    path = artifacts_of(stage) / CHOICE
    raw = json.loads(path.read_text()) | {"values": {"pretrain.lr": 0.001}}
    path.write_text(files.to_json(raw))
    result.pop("crc", None)
    result["files"][f"artifacts/{CHOICE}"] = {"size": path.stat().st_size, "sha256": files.sha256_file(path)}
    stage.result.write_text(files.seal(result))
    export(plan.layout.root, "search", tmp_path / "search.tar.gz")
    (told,) = verify(tmp_path / "search.tar.gz")[1]
    assert "choice.json: it says {'pretrain.lr': 0.001}, the losses say {'pretrain.lr': 0.002}" in told


def test_a_search_that_runs_has_a_table_of_what_is_known(tmp_path: Path) -> None:
    plan = search(tmp_path)
    files.replace(plan.layout.sweep("search").plan, plan.file.model_dump_json())
    frame = registry()["search"].build(study(plan.layout.root, "search"))
    assert set(frame["outcome"]) == {"open"} and frame["loss"].isna().all() and len(frame) == 2 * 4 * 3
