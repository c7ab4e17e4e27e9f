"""The upstream gate in tables, report and figures: verdicts, marks, and what was withheld."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from analysis.load import load
from analysis.report import page
from analysis.study import Study
from analysis.summary import verdict_sentences
from analysis.tables import registry
from analysis.terminal import text_of
from sweeps.language.gate import FOLLOWING, Verdict
from tests.analysis.conftest import SCRATCH, Arm, SweepBuilder

DOUBTED = Arm(name="nca 30-45", upstream="nca", complexity="30-45", verdict=Verdict.NOT_LEARNED)
SURE = Arm(name="nca 60-75", upstream="nca", complexity="60-75", gain=0.05)
SHUFFLED = Arm(name="nca_shuffled", upstream="nca_shuffled", verdict=Verdict.INCONCLUSIVE)
ARMS = (SCRATCH, DOUBTED, SURE, SHUFFLED)


@pytest.fixture(scope="module")
def doubted(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A finished sweep with one arm whose upstream was not learned."""
    root = SweepBuilder(tmp_path_factory.mktemp("doubted"), arms=ARMS, domains=("web", "code")).build()
    return Study(load(root, "demo"))


def test_one_row_per_run_with_the_losses_behind_its_verdict(doubted: Study) -> None:
    frame = registry()["upstream_gate"].build(doubted)
    assert len(frame) == 3 * 3, "three arms and three seeds; two domains share a run"
    verdicts = dict(zip(frame["arm"], frame["verdict"], strict=True))
    assert verdicts == {"nca 30-45": "not learned", "nca 60-75": "learned", "nca_shuffled": "inconclusive"}
    row = frame.iloc[0]
    assert row["best_guess"] == "copy" and row["share"] == pytest.approx(1.0 / (3.94 - 1.94))
    assert row["sequences"] == 125 and row["margin_se"] == 0.1


def test_losses_by_frame_and_position(doubted: Study) -> None:
    frame = registry()["upstream_gate_by_place"].build(doubted)
    part = frame[(frame["arm"] == "nca 60-75") & (frame["seed"] == 0)]
    assert [tuple(r) for r in part[["axis", "first", "loss"]].to_numpy()] == [
        ("frame", 2, 2.9), ("position", 16, 3.3)]
    assert part["copy_loss"].tolist()[0] == 3.9 and part["copy_loss"].isna().tolist() == [False, True]


def test_every_table_about_transfer_has_the_mark(doubted: Study) -> None:
    """What names an arm and a gain, a loss or a score of its final model says whether its upstream was learned."""
    other = {"upstream_gate", "upstream_gate_by_place", "missing", "cost", "departures", "elsewhere", "search",
             "difficulty"}
    for name, table in registry().items():
        assert name in other or "learned" in [c.name for c in table.columns], name
    seeds = registry()["seeds"].build(doubted)
    assert set(seeds.loc[seeds["arm"] == "nca 30-45", "learned"]) == {"not learned"}
    controls = registry()["controls"].build(doubted)
    assert set(zip(controls["arm"], controls["learned"], controls["control_learned"], strict=True)) == {
        ("nca 30-45", "0/3", "0/3"), ("nca 60-75", "3/3", "0/3")}


@pytest.mark.parametrize(("claim", "said"), [
    ({"arm": "nca 60-75", "over": "nca_shuffled", "gain_nats": "> 0"},
     "interval over seeds, over nca_shuffled (upstream learned in 0/3)"),
    ({"arm": "nca 60-75", "over": "baseline", "gain_nats": "> 0"}, "95 % paired-t interval over seeds"),
    ({"arm": "best_band", "over": "nca_shuffled", "gain_nats": "> 0"},
     "variance pooled, over nca_shuffled (upstream learned in 0/3)"),
    ({"band": "lower", "than": "code"}, "60-75 on code; nca 30-45 (upstream learned in 0/3)"),
])
def test_a_claim_that_rests_on_an_upstream_not_learned_says_so(
    doubted: Study, claim: dict[str, str], said: str
) -> None:
    plan = doubted.records.plan.model_copy(update={"claims": {"it": {"domain": "web", "says": "", **claim}}})
    found = Study(replace(doubted.records, plan=plan))
    row = registry()["claims"].build(found).iloc[0]
    assert row["rule"].endswith(said), row["rule"]
    assert said in " ".join(verdict_sentences(found))


def test_the_report_marks_it(doubted: Study) -> None:
    text = page(doubted)
    assert "0/3 ?" in text and "nca 30-45 (upstream learned in 0/3)" in text and ">nca 30-45 ?<" in text
    assert "nca 60-75 ?" not in text and "nca 60-75 (upstream" not in text


def test_records_of_the_first_revision_are_still_read(tmp_path: Path) -> None:
    records = load(SweepBuilder(tmp_path, arms=ARMS[:2], domains=("web",)).build(), "demo")
    later = records.scores["name"].str.contains("ngram|context|uniform|oracle|frame|position|se$|sequences")
    row = registry()["upstream_gate"].build(Study(replace(records, scores=records.scores[~later]))).iloc[0]
    assert row["verdict"] == "not learned" and row["best_guess"] == "copy" and row["sequences"] == 0


@pytest.mark.parametrize(("gate", "status"), [("require", "withheld"), ("report", "absent")])
def test_what_was_withheld_is_missing_for_that_reason(tmp_path: Path, gate: str, status: str) -> None:
    def fate(trial: str, role: str, tokens: int) -> str:
        return "absent" if role in FOLLOWING and trial.startswith("nca_30") else "done"

    root = SweepBuilder(tmp_path, arms=ARMS, domains=("web",), fate=fate, plan={"gate": gate}).build()
    study = Study(load(root, "demo"))
    missing = registry()["missing"].build(study)
    assert set(missing["status"]) == {status} and set(missing["arm"]) == {"nca 30-45"}
    text, table = " ".join(verdict_sentences(study)), text_of(study)
    assert ("withheld, their upstream not learned" in text) == (gate == "require")
    assert ("- (3 withheld)" in table) == (gate == "require") and "0/3 ?" in table


def test_a_control_is_never_withheld(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path, arms=ARMS, domains=("web",), plan={"gate": "require"}, fate=lambda trial, role, _: (
        "absent" if role in FOLLOWING and "shuffled" in trial else "done")).build()
    assert set(registry()["missing"].build(Study(load(root, "demo")))["status"]) == {"absent"}
