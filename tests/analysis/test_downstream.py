"""The table `downstream`, on sweeps whose scores are written by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.downstream import NO_SIGNAL, _beats
from analysis.figures import registry as figures
from analysis.item_records import STATED
from analysis.load import load
from analysis.statistics import detectable_effect, paired_t
from analysis.study import Study
from analysis.tables import registry
from analysis.two_way import MIN_ITEMS, two_way_t
from sweeps.language.ladder import LADDER
from sweeps.language.manifest import PathStep
from sweeps.store import files
from sweeps.store.integrity import manifest_of
from sweeps.store.layout import AttemptFolder, Layout, StageFolder
from tests.analysis.conftest import ARMS, RELAXED, Arm, SweepBuilder, _scores

Values = dict[str, list[dict[str, float]]]
"""Arm -> for each seed its scores, without the task's name; an empty one: diverged."""


@dataclass
class Asked(SweepBuilder):
    """A sweep with a downstream task."""

    values: Values | None = None
    twin: dict[str, float] | None = None

    def _trial(self, arm: Arm, domain: str, seed: int) -> Any:
        trial = super()._trial(arm, domain, seed)
        own = (self.values or {})[arm.name][seed]
        steps = (self._stage(trial.id, "downstream_twin", "downstream", 0, f"twin{seed}", {"asked": self.twin or {}}),
                 self._stage(trial.id, "downstream", "downstream", 0, trial.id, {"asked": own}))
        return trial.model_copy(update={"path": (*trial.path, *steps)})

    def _write(self, step: PathStep, about: Any, fate: str) -> None:
        super()._write(step, about, "diverged" if about.get("asked") == {} and step.role == "downstream" else fate)


@pytest.fixture(autouse=True)
def _asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def scores(step: PathStep, about: Any) -> dict[str, float]:
        if "asked" not in about:
            return _scores(step, about)
        return {k if k.startswith("u.") else f"t.{k}": v for k, v in about["asked"].items()}

    monkeypatch.setattr("tests.analysis.conftest._scores", scores)


def scored(cloze: float, **more: float) -> dict[str, float]:
    return {"items": 40.0, "not_evaluable": 0.0, "all.cloze": cloze, "all.cloze.chance": 0.25, **more}


def table(root: Path, values: Values, twin: dict[str, float] | None = None, seeds: int = 3) -> pd.DataFrame:
    arms = tuple(arm for arm in ARMS if arm.name in values)
    Asked(root, arms=arms, domains=("web",), seeds=seeds, values=values, twin=twin, plan={"claims": {}}).build()
    return registry()["downstream"].build(Study(load(root, "demo")))


SCRATCH, NCA = ARMS[0].name, next(a.name for a in ARMS if a.upstream == "nca")


def test_a_row_says_what_beats_what_and_by_how_much(tmp_path: Path) -> None:
    own, base = [0.5, 0.55, 0.48], [0.41, 0.4, 0.42]
    frame = table(tmp_path, {SCRATCH: [scored(v) for v in base], NCA: [scored(v) for v in own]}, {"all.cloze": 0.3})
    row = frame[frame["arm"] == NCA].iloc[0]
    gains = paired_t([a - b for a, b in zip(own, base, strict=True)])
    assert (row["task"], row["level"], row["rung"], row["unit"], row["better"]) == (
        "t", "all", "cloze", "share", "higher")
    assert row["mean"] == pytest.approx(sum(own) / 3) and row["low"] == pytest.approx(paired_t(own).low)
    assert row["beats"] == "chance, twin" and row["chance"] == 0.25 and row["twin"] == pytest.approx(0.3)
    assert math.isnan(row["unigram"])
    assert row["difference"] == pytest.approx(gains.mean) and row["difference_high"] == pytest.approx(gains.high)
    assert row["detectable"] == pytest.approx(detectable_effect(gains.sd, 3))
    assert row["items"] == 40 and row["not_evaluable"] == 0 and row["seeds"] == 3
    assert math.isnan(frame[frame["arm"] == SCRATCH].iloc[0]["difference"])


def text_table(root: Path, monkeypatch: pytest.MonkeyPatch, **guesses: float) -> pd.DataFrame:
    """Return the rows of held-out text: about 2 bits a byte on `web`, the twin's 8 on `code`."""
    def scores(step: PathStep, about: Any) -> dict[str, float]:
        if "asked" in about:
            return {f"t.{k}": v for k, v in about["asked"].items()}
        bits = {"evaluate": 2.0 + 0.01 * about.get("seed", 0), "twin": 8.0}.get(step.role)
        return _scores(step, about) | ({} if bits is None else {
            "domain_loss.web.bits_per_byte": bits, "domain_loss.web.loss": bits, "domain_loss.code.bits_per_byte": 8.0,
            **{f"domain_loss.{d}.bits_per_byte.{of}": v for d in ("web", "code") for of, v in guesses.items()}})

    monkeypatch.setattr("tests.analysis.conftest._scores", scores)
    frame = table(root, {SCRATCH: [scored(0.5)] * 3, NCA: [scored(0.5)] * 3}, {"all.cloze": 0.3})
    return frame[frame["task"] == "domain_loss"].set_index(["arm", "level"])


def test_held_out_text_is_the_lowest_rung_beside_the_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = text_table(tmp_path, monkeypatch, chance=8.0, unigram=4.5)
    assert set(rows["rung"]) == {"bits_per_byte"} and set(rows["unit"]) == {"bits/byte"}
    assert set(rows.index) == {(arm, level) for arm in (SCRATCH, NCA) for level in ("web", "code")}
    assert set(rows["better"]) == {"lower"} and rows["corrected"].isna().all()
    web, code = rows.loc[(NCA, "web")], rows.loc[(NCA, "code")]
    assert (web["seeds"], web["beats"], web["over"]) == (3, "chance, unigram, twin", "seeds")
    assert (web["chance"], web["unigram"], web["twin"]) == (8.0, 4.5, 8.0)
    assert math.isfinite(web["difference"]) and math.isfinite(web["detectable"])
    assert code["beats"] == NO_SIGNAL and math.isnan(code["difference"])
    study = Study(load(tmp_path, "demo"))
    short = registry()["downstream_in_short"].build(study)
    assert set(short["task"]) == {"t"}, "the short form is of tasks with items"
    measured = set(registry()["probes"].build(study)["score"])
    assert "domain_loss.web.bits_per_byte" in measured
    assert not [name for name in measured if "bits_per_byte." in name], "a guess is no score of a model"


@pytest.mark.parametrize(("unigram", "beats"), [
    (2.01, "chance, twin"),  # the mean of the three seeds
    (1.5, "chance, twin"), (2.5, "chance, unigram, twin"),
])
def test_a_model_of_text_that_is_no_better_than_the_unigram_law_does_not_beat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unigram: float, beats: str
) -> None:
    assert text_table(tmp_path, monkeypatch, chance=8.0, unigram=unigram).loc[(NCA, "web")]["beats"] == beats


def test_text_that_was_scored_before_the_guesses_has_its_twin_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = text_table(tmp_path, monkeypatch).loc[(NCA, "web")]
    assert web["beats"] == "twin" and math.isnan(web["chance"]) and math.isnan(web["unigram"])


def test_what_beats_nothing_is_not_ranked(tmp_path: Path) -> None:
    frame = table(tmp_path, {SCRATCH: [scored(0.25)] * 3, NCA: [scored(v) for v in (0.26, 0.24, 0.25)]},
                  {"all.cloze": 0.25})
    row = frame[frame["arm"] == NCA].iloc[0]
    assert row["beats"] == NO_SIGNAL and math.isnan(row["difference"]) and math.isnan(row["detectable"])


def test_a_picture_leaves_out_what_has_no_signal_where_something_has(tmp_path: Path) -> None:
    deaf = {"all.exact": 0.0, "all.exact.chance": 0.0}
    both = ["t, cloze", "t, exact"]
    for root, cloze, shown in ((tmp_path / "a", 0.5, both[:1]), (tmp_path / "b", 0.25, both)):
        table(root, {arm: [scored(cloze + shift, **deaf) for shift in (0.0, 0.01, -0.01)] for arm in (SCRATCH, NCA)})
        forest, = figures()["downstream_forest"].build(Study(load(root, "demo")))
        assert list(forest.data.rows) == shown
        assert ("1 more rows are in the table" in forest.description) == (cloze == 0.5)


def test_fewer_than_three_seeds_have_no_interval_and_no_verdict(tmp_path: Path) -> None:
    frame = table(tmp_path, {SCRATCH: [scored(0.9)] * 2, NCA: [scored(0.9)] * 2}, seeds=2)
    assert set(frame["beats"]) == {"fewer than 3 seeds: no interval"} and frame["low"].isna().all()


def test_an_arm_that_cannot_be_evaluated_is_counted_and_not_scored(tmp_path: Path) -> None:
    too_long = {"items": 40.0, "not_evaluable": 40.0}
    frame = table(tmp_path, {SCRATCH: [scored(0.4)] * 3, NCA: [scored(0.5), {}, too_long]})
    row = frame[frame["arm"] == NCA].iloc[0]
    assert row["seeds"] == 1 and row["not_evaluable"] == 2


def test_an_arm_without_any_score_has_its_row(tmp_path: Path) -> None:
    frame = table(tmp_path, {SCRATCH: [scored(0.4)] * 3, NCA: [{}] * 3})
    row = frame[frame["arm"] == NCA].iloc[0]
    assert row["seeds"] == 0 and row["not_evaluable"] == 3 and math.isnan(row["mean"])


@pytest.mark.parametrize(("value", "low", "high"), [(0.0, 0.0, 1 - 0.05**(1 / 40)), (1.0, 0.05**(1 / 40), 1.0)])
def test_none_or_all_right_has_the_exact_bound(value: float, low: float, high: float, tmp_path: Path) -> None:
    own = [{"items": 40.0, "not_evaluable": 0.0, "all.exact": value, "all.exact.chance": 0.0}] * 3
    row = table(tmp_path, {SCRATCH: own}).iloc[0]
    assert row["low"] == pytest.approx(low) and row["high"] == pytest.approx(high)


def test_an_interval_of_shares_ends_where_shares_do(tmp_path: Path) -> None:
    row = table(tmp_path, {SCRATCH: [scored(v) for v in (0.05, 0.5, 0.95)]}).iloc[0]
    assert (row["low"], row["high"]) == (0.0, 1.0)


def test_bits_are_better_when_fewer(tmp_path: Path) -> None:
    own = [{"items": 40.0, "not_evaluable": 0.0, "all.answer_bits": v, "all.answer_bits.chance": 8.0}
           for v in (2.0, 2.1, 1.9)]
    row = table(tmp_path, {SCRATCH: own}).iloc[0]
    assert row["beats"] == "chance" and row["better"] == "lower"


@given(st.dictionaries(st.sampled_from(["chance", "unigram", "twin"]),
                       st.lists(st.floats(-1, 0), min_size=3, max_size=5), min_size=1),
       st.sampled_from(["cloze", "answer_bits"]))
@RELAXED
def test_what_is_never_better_never_beats(worse: dict[str, list[float]], name: str) -> None:
    rung = LADDER[name]
    assert _beats({of: two_way_t([[rung.sign * d for d in values]]) for of, values in worse.items()}, rung) == NO_SIGNAL


def test_a_table_of_probes_does_not_read_downstream_scores(tmp_path: Path) -> None:
    Asked(tmp_path, arms=ARMS[:1], domains=("web",), values={SCRATCH: [scored(0.4)] * 3}, twin={"all.cloze": 0.2},
          plan={"claims": {}}).build()
    frame = registry()["probes"].build(Study(load(tmp_path, "demo")))
    assert not frame.empty and not any(name.startswith("t.") for name in frame["score"])


Rows = dict[str, list[float]]
"""Column -> a value for each item."""


def write_items(root: Path, trial: str, role: str, columns: Rows, levels: list[str] | None = None) -> None:
    """Write records of items, as a stage leaves them, for a trial's stage of that role; its result states them."""
    stage, attempt = stage_of(root, trial, role)
    path = attempt.path / STATED
    path.parent.mkdir(parents=True, exist_ok=True)
    count = len(next(iter(columns.values())))
    pyarrow.parquet.write_table(pyarrow.table(
        {"id": [str(n) for n in range(count)], "level": levels or ["1"] * count, **columns}), path)
    result = files.read_json(stage.result)
    result["files"][STATED] = manifest_of(attempt.artifacts)[path.name]
    files.replace(stage.result, files.seal(result))


def stage_of(root: Path, trial: str, role: str) -> tuple[StageFolder, AttemptFolder]:
    """A trial's stage of that role, and its attempt."""
    path = next(t.path for t in load(root, "demo").plan.trials if t.id == trial)
    stage = next(Layout(root).stage(s.kind, s.fingerprint) for s in path if s.role == role)
    return stage, stage.attempt(1)


def itemised(root: Path, own: dict[str, list[Rows]]) -> pd.DataFrame:
    """The table of a sweep whose stages have left records of their items; means as the stages give them."""
    values = {arm: [scored(sum(rows["cloze"]) / len(rows["cloze"])) for rows in seeds] for arm, seeds in own.items()}
    table(root, values)
    plan = load(root, "demo").plan
    for trial in plan.trials:
        write_items(root, trial.id, "downstream", own[trial.arm][trial.seed])
    return registry()["downstream"].build(Study(load(root, "demo")))


def drawn(shift: float, seed: int, items: int = 40) -> Rows:
    rng = np.random.default_rng([7, seed])
    hard = np.random.default_rng(1).random(items)
    return {"cloze": (hard + shift + 0.1 * rng.random(items)).tolist(), "cloze.chance": [0.25] * items}


def test_differences_are_paired_by_item_and_seed_and_their_intervals_are_over_both(tmp_path: Path) -> None:
    own = {SCRATCH: [drawn(0.0, s) for s in range(3)], NCA: [drawn(0.05, s + 10) for s in range(3)]}
    frame = itemised(tmp_path, own)
    row = frame[frame["arm"] == NCA].iloc[0]
    pairs = np.array([np.subtract(a["cloze"], b["cloze"]) for a, b in zip(own[NCA], own[SCRATCH], strict=True)]).T
    expected = two_way_t(pairs)
    assert (row["difference"], row["difference_low"], row["difference_high"], row["detectable"]) == pytest.approx(
        (expected.mean, expected.low, expected.high, expected.detectable))
    assert row["over"] == "items, seeds" and expected.items == 40
    alone = two_way_t(np.array([a["cloze"] for a in own[NCA]]).T)
    assert (row["low"], row["high"]) == pytest.approx((alone.low, alone.high))
    assert alone.half > 2 * expected.half, "items differ far more than what pairing leaves"


def guessed(name: str, mean: float, chances: list[float] | None, root: Path, **more: float) -> float:
    """The corrected mean of a rung, with what chance gets on each item's choices."""
    own = scored(0.5, **{f"all.{name}": mean, **({} if name == "cloze" else {f"all.{name}.chance": 0.0}), **more})
    table(root, {SCRATCH: [own] * 3})
    for trial in load(root, "demo").plan.trials if chances else ():
        write_items(root, trial.id, "downstream", {"cloze": [mean] * 40, "cloze.chance": chances or []})
    frame = registry()["downstream"].build(Study(load(root, "demo")))
    return float(frame[frame["rung"] == name]["corrected"].iloc[0])


@pytest.mark.parametrize(("name", "mean", "corrected"), [
    ("cloze", 0.25, 0.0), ("cloze", 1.0, 1.0), ("probability", 0.625, 0.5), ("exact", 0.1, -0.2),
    ("pass@1", 0.25, 0.0), ("pass@2", 1 - 0.75**2, 0.0), ("pass@10", 1.0, 1.0), ("pass@2", 0.8, 1 - 0.2 / 0.75**2)])
def test_a_mean_is_corrected_for_k_guesses_among_the_choices(
        name: str, mean: float, corrected: float, tmp_path: Path) -> None:
    assert guessed(name, mean, [0.25] * 40, tmp_path) == pytest.approx(corrected)


def test_the_correction_is_that_of_the_items_and_of_nothing_where_it_is_not_known(tmp_path: Path) -> None:
    mixed = guessed("pass@2", 0.8, [0.5, 0.25] * 20, tmp_path / "mixed")
    chance = (0.75 + 1 - 0.75**2) / 2
    assert mixed == pytest.approx((0.8 - chance) / (1 - chance))
    assert math.isnan(guessed("pass@2", 0.8, None, tmp_path / "unknown")), "the items' records alone say each m"
    assert math.isnan(guessed("pass@100", 0.8, [0.25] * 40, tmp_path / "many")), "guessing gets all but 3e-13"
    assert guessed("cloze", 0.5, None, tmp_path / "one") == pytest.approx(1 / 3), "one try: the mean says it"
    for name in ("margin", "answer_bits"):
        assert math.isnan(guessed(name, 0.5, [0.25] * 40, tmp_path / name))
    judged = guessed("pass@1", 0.5, [0.25] * 40, tmp_path / "judged", **{"programs.truncated": 0.0})
    assert math.isnan(judged), "programs are not written from among choices"


def test_records_of_other_items_are_not_paired(tmp_path: Path) -> None:
    """Then the intervals are over seeds, on the means, and the row says so."""
    own = {SCRATCH: [drawn(0.0, s) for s in range(3)], NCA: [drawn(0.05, s + 10, items=39) for s in range(3)]}
    frame = itemised(tmp_path, own)
    row = frame[frame["arm"] == NCA].iloc[0]
    means = {arm: [float(np.mean(rows["cloze"])) for rows in seeds] for arm, seeds in own.items()}
    gains = paired_t(np.subtract(means[NCA], means[SCRATCH]).tolist())
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((gains.low, gains.high))
    assert row["detectable"] == pytest.approx(detectable_effect(gains.sd, 3))


def test_a_row_says_where_there_are_too_few_items_or_seeds(tmp_path: Path) -> None:
    few = itemised(tmp_path / "items", {SCRATCH: [drawn(0.0, s, items=MIN_ITEMS - 1) for s in range(3)]})
    assert set(few["over"]) == {f"items, seeds; fewer than {MIN_ITEMS} items"}
    assert set(table(tmp_path / "none", {SCRATCH: [scored(0.9)] * 3})["over"]) == {"seeds"}
    assert set(table(tmp_path / "two", {SCRATCH: [scored(0.9)] * 2}, seeds=2)["over"]) == {"fewer than 3 seeds"}


def test_the_short_form_has_one_row_for_each_arm_on_the_highest_rung_that_tells(tmp_path: Path) -> None:
    def on(cloze: list[float], exact: float) -> list[dict[str, float]]:
        return [scored(v, **{"all.exact": exact, "all.exact.chance": exact, "all.margin": v, "all.margin.chance": 0.0,
                             "1.cloze": v, "1.cloze.chance": 0.25}) for v in cloze]

    table(tmp_path, {SCRATCH: on([0.5, 0.52, 0.51], 0.0), NCA: on([0.6, 0.61, 0.63], 0.0)})
    frame = registry()["downstream_in_short"].build(Study(load(tmp_path, "demo")))
    assert frame["arm"].tolist() == [SCRATCH, NCA] and set(frame["rung"]) == {"cloze"}
    gains = paired_t([0.1, 0.09, 0.12])
    assert frame["difference"].tolist() == ["", f"{gains.mean:+.3g} [{gains.low:+.3g}, {gains.high:+.3g}]"]
    assert frame["score"].iloc[0].startswith("0.51 [") and set(frame["beats"]) == {"chance"}
    assert frame["detectable"].iloc[1] == pytest.approx(detectable_effect(gains.sd, 3))


def test_of_several_rungs_that_tell_nothing_the_short_form_shows_the_highest_with_no_signal(tmp_path: Path) -> None:
    table(tmp_path, {SCRATCH: [scored(0.25, **{
        f"all.pass@{k}{of}": 0.0 for k in (1, 10) for of in ("", ".chance")})] * 3})
    frame = registry()["downstream_in_short"].build(Study(load(tmp_path, "demo")))
    assert frame["rung"].tolist() == ["pass@1"] and frame["beats"].tolist() == [NO_SIGNAL]


def programs(sandbox: str, **rungs: float) -> dict[str, float]:
    return {"items": 40.0, f"sandbox.{sandbox}": 1.0, "all.cloze": 0.5, "all.cloze.chance": 0.25,
            "all.pass@1.chance": 0.0, **{f"all.{name}": value for name, value in rungs.items()}}


def test_programs_that_no_sandbox_could_run_are_not_evaluated_and_say_so(tmp_path: Path) -> None:
    frame = table(tmp_path, {SCRATCH: [programs("none")] * 3, NCA: [programs("none")] * 3})
    rows = frame[frame["rung"] == "pass@1"]
    assert set(rows["beats"]) == {"not evaluated: no sandbox"} and set(rows["not_evaluable"]) == {3}
    assert set(rows["seeds"]) == {0} and rows["mean"].isna().all() and rows["difference"].isna().all()
    cloze = frame[frame["rung"] == "cloze"]
    assert set(cloze["beats"]) == {"chance"} and set(cloze["not_evaluable"]) == {0}


def test_programs_that_ran_without_a_sandbox_are_marked_in_both_tables(tmp_path: Path) -> None:
    own = {SCRATCH: [programs("bubblewrap", **{"pass@1": v}) for v in (0.5, 0.52, 0.51)],
           NCA: [programs(kind, **{"pass@1": v}) for kind, v in (
               ("bubblewrap", 0.6), ("unsafe", 0.62), ("bubblewrap", 0.61))]}
    frame = table(tmp_path, own)
    assert dict(zip(frame["arm"], frame["sandbox"], strict=True)) == {SCRATCH: "bubblewrap", NCA: "bubblewrap, unsafe"}
    short = registry()["downstream_in_short"].build(Study(load(tmp_path, "demo")))
    assert short["sandbox"].tolist() == ["bubblewrap", "bubblewrap, unsafe"] and set(short["rung"]) == {"pass@1"}
    assert short["chance"].tolist() == [0.0, 0.0]


def test_a_seed_without_a_sandbox_is_counted_beside_those_with_one(tmp_path: Path) -> None:
    seeds = [programs("bubblewrap", **{"pass@1": 0.5}), programs("none"), programs("bubblewrap", **{"pass@1": 0.4})]
    frame = table(tmp_path, {SCRATCH: seeds})
    row = frame[frame["rung"] == "pass@1"].iloc[0]
    assert (row["seeds"], row["not_evaluable"], row["sandbox"]) == (2, 1, "bubblewrap, none")


def test_a_trial_whose_other_task_is_done_is_neither_scored_nor_lost(tmp_path: Path) -> None:
    other = {"u.items": 9.0, "u.all.cloze": 0.5, "u.all.cloze.chance": 0.25}
    frame = table(tmp_path, {SCRATCH: [scored(0.5), scored(0.4), other]})
    row = frame[frame["task"] == "t"].iloc[0]
    assert (row["seeds"], row["items"], row["not_evaluable"]) == (2, 40, 0)
    assert frame[frame["task"] == "u"].iloc[0]["items"] == 9
