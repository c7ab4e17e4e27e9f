"""Tables: schema, bytes, and what they say about hand-made sweeps."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.claims import judge
from analysis.controls import contrasts
from analysis.load import load
from analysis.schema import Column
from analysis.study import Study
from analysis.table import Table, cell, to_csv, to_latex, to_markdown, to_text
from analysis.tables import registry, write_tables
from orchestrator.__main__ import main
from sweeps.language.manifest import PlanFile
from sweeps.store.layout import Layout
from tests.analysis.conftest import ARMS, SCRATCH, Arm, SweepBuilder, detectable_of


def build(name: str, study: Study) -> pd.DataFrame:
    """Build one registered table."""
    return registry()[name].build(study)


@pytest.mark.parametrize("name", sorted(registry()))
def test_every_table_keeps_its_schema(name: str, demo_study: Study, partial: Path, tmp_path: Path) -> None:
    table = registry()[name]
    nothing = SweepBuilder(tmp_path, arms=ARMS[:1], fate=lambda *_: "absent", plan={"claims": {}}).build()
    for study in (demo_study, Study(load(partial, "demo")), Study(load(nothing, "demo"))):
        frame = table.build(study)
        assert list(frame.columns) == [c.name for c in table.columns]
        assert [str(t) for t in frame.dtypes] == [c.dtype for c in table.columns]
        assert table.title in to_markdown(name, table, frame) and to_csv(frame).endswith("\n")


def test_same_records_same_bytes_but_cost(tmp_path: Path) -> None:
    written = []
    for place, seconds in (("a", 60.0), ("b", 71.5)):
        root = SweepBuilder(tmp_path / place / "store", domains=("web",), seconds=seconds).build()
        paths = write_tables(root, "demo", tmp_path / place / "out")
        written.append({p.name: p.read_bytes() for p in paths})
    differing = {name for name in written[0] if written[0][name] != written[1][name]}
    assert differing == {"cost.csv", "cost.md"} and written[0].keys() == written[1].keys()
    assert not any(str(tmp_path).encode() in text for text in written[0].values())


def test_missing_counts_everything(partial: Path) -> None:
    frame = build("missing", Study(load(partial, "demo")))
    found = {(r["trial"], r["what"], r["status"]): r["count"] for r in frame.to_dict("records")}
    assert found["nca_30-45-web-s0", "end", "diverged"] == 1
    assert found["scratch-math-s1", "end", "started"] == 2
    assert found["nca_60-75-math-s1", "gain", "baseline missing"] == 1
    assert found["nca_60-75-code-s1", "end", "unscored"] == 1
    kept = frame[frame["scored"]]["trial"]
    assert "scratch-web-s1" in set(kept) and "nca_60-75-math-s1" not in set(kept)


def test_nothing_missing_says_so(demo_study: Study) -> None:
    table = registry()["missing"]
    assert "Nothing is missing" in to_markdown("missing", table, table.build(demo_study))


def test_cost_counts_shared_stages_once(demo_study: Study) -> None:
    rows = build("cost", demo_study).to_dict("records")
    upstream = next(r for r in rows if (r["arm"], r["kind"]) == ("nca 60-75", "prepretrain"))
    assert (upstream["stages"], upstream["uses"]) == (3, 9) and upstream["reused"] == pytest.approx(2 / 3)
    assert upstream["tokens_unshared"] == 3 * upstream["tokens"] == 900_000
    assert upstream["seconds"] == 180 and upstream["tokens_per_second"] == pytest.approx(300_000 / 180)


def test_cost_puts_together_what_training_stages_measured(tmp_path: Path) -> None:
    measured = {"mfu": 0.4, "step_seconds_p50": 0.05, "checkpoint_stall_seconds": 2.0, "loss_spikes": 1.0}
    root = SweepBuilder(tmp_path, domains=("web",), trained=measured).build()
    rows = {(r["arm"], r["kind"]): r for r in build("cost", Study(load(root, "demo"))).to_dict("records")}
    upstream = rows["nca 60-75", "prepretrain"]
    assert (upstream["mfu"], upstream["step_seconds_p50"], upstream["loss_spikes"]) == (0.4, 0.05, 1.0)
    assert upstream["checkpoint_stall_seconds"] == 2.0 * upstream["done"] == 6.0
    assert pd.isna(upstream["data_wait_share"]) and pd.isna(upstream["matmul_share"]), "older records have none"
    assert all(pd.isna(r["mfu"]) for (_, kind), r in rows.items() if kind in ("corpus", "evaluate"))


def test_convergence_has_the_baseline_and_all_arms(demo_study: Study) -> None:
    frame = build("convergence", demo_study)
    assert len(frame) == 15 and frame["arm"].iloc[0] == "scratch"
    row = frame[(frame["domain"] == "web") & (frame["arm"] == "nca 60-75")].iloc[0]
    assert row["gain_low"] < row["gain_nats"] < row["gain_high"] and row["seeds"] == 3
    assert row["speedup_low"] < row["speedup"] < row["speedup_high"]
    assert row["charged_speedup"] < row["flop_charged_speedup"] < row["speedup"]


@pytest.mark.parametrize(("name", "low", "high", "detectable"), [
    ("convergence", "gain_low", "gain_high", "detectable_nats"), ("controls", "low", "high", "detectable_nats"),
    ("inference", "low", "high", "detectable_nats"), ("learning_rates", "low", "high", "detectable_nats"),
    ("published", "low", "high", "detectable_nats"), ("probes", "low", "high", "detectable"),
])
def test_what_could_have_been_found_stands_beside_each_interval(
    name: str, low: str, high: str, detectable: str, demo_study: Study
) -> None:
    rows = [row for row in build(name, demo_study).to_dict("records") if row[low] < row[high]]
    assert rows and all(row[detectable] == detectable_of(row, low, high) for row in rows)


def test_no_mean_speedup_where_a_seed_is_censored(tmp_path: Path) -> None:
    arms = (SCRATCH, Arm(name="worse", upstream="dyck", gain=-0.05))
    frame = build("convergence", Study(load(SweepBuilder(tmp_path, arms=arms, domains=("web",)).build(), "demo")))
    row = frame[frame["arm"] == "worse"].iloc[0]
    assert row["censored"] == 3 and pd.isna(row["speedup"]) and row["speedup_bound"] == 1.0
    assert "never reached" in row["speedup_note"]


CLAIMS = {
    "yes": ({"arm": "nca 30-45"}, "> 0", "supported"),
    "best": ({"arm": "best_band"}, "> 0.01", "supported"),
    "no": ({"arm": "shuffle_dyck"}, "> 0.2", "contradicted"),
    "mirror": ({"arm": "shuffle_dyck"}, "< 0", "contradicted"),
    "open": ({"arm": "nca 60-75", "over": "nca_shuffled"}, "> -0.007", "inconclusive"),
    "best_over": ({"arm": "best_band", "over": "nca_shuffled"}, "> 0", "supported"),
    "unknown": ({"arm": "nca 1-2"}, "> 0", "not tested"),
    "nowhere": ({"arm": "nca 30-45", "domain": "law"}, "> 0", "not tested"),
    "nonsense": ({"arm": "nca 30-45"}, "about 3", "not tested"),
}


def with_claims(study: Study) -> Study:
    """The study with the claims above declared."""
    claims = {k: {"domain": "web", "over": "baseline", "gain_nats": s, **f} for k, (f, s, _) in CLAIMS.items()}
    return Study(replace(study.records, plan=PlanFile(**study.records.plan.model_dump() | {"claims": claims})))


def test_claims(demo_study: Study) -> None:
    assert {v.claim: v.verdict for v in judge(with_claims(demo_study))} == {k: v for k, (_, _, v) in CLAIMS.items()}


def test_claims_on_two_seeds_are_not_tested(partial: Path) -> None:
    verdicts = judge(with_claims(Study(load(partial, "demo"))))
    assert {v.verdict for v in verdicts} == {"not tested"}
    assert any("fewer than 3 seeds" in v.rule for v in verdicts)


def test_best_band_uses_the_simultaneous_interval(demo_study: Study) -> None:
    best = next(v for v in judge(with_claims(demo_study)) if v.claim == "best")
    made, kept, _ = demo_study.family("web", ["nca 30-45", "nca 60-75"], "scratch")
    assert made is not None and best.chosen == kept[made.best] and best.interval == made.intervals[made.best]


def test_a_control_is_met_by_its_own_upstream_only(demo_study: Study) -> None:
    found = contrasts(demo_study, "web")
    assert [c.arm for c in found] == ["nca 30-45", "nca 60-75"], "shuffle_dyck has no control of its own"
    assert [c.same_band for c in found] == [False, True]
    assert found[1].difference.mean == pytest.approx(
        found[1].over_scratch.mean - found[1].control_over_scratch.mean)


def test_a_control_whose_name_is_unlike_its_upstreams_is_met_by_that_one_alone(tmp_path: Path) -> None:
    arms = (*ARMS, Arm(name="init_rescaled", upstream="init_rescaled", gain=0.01))

    def met(controls: dict[str, str]) -> set[str]:
        sweep = SweepBuilder(tmp_path / str(len(controls["init_rescaled"])), arms=arms, plan={"controls": controls})
        return {c.arm for c in contrasts(Study(load(sweep.build(), "demo")), "web") if c.control == "init_rescaled"}

    own = {"nca_shuffled": "nca", "init_rescaled": "nca"}
    assert met(own) == {"nca 30-45", "nca 60-75"}
    assert met(own | {"init_rescaled": ""}) == {"nca 30-45", "nca 60-75", "shuffle_dyck"}, "a control of none is of all"


def test_a_plan_that_only_names_its_controls_is_still_read(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path).build()
    path = Layout(root).sweep("demo").plan
    path.write_text(path.read_text().replace('{"nca_shuffled":"nca"}', '["nca_shuffled"]'))
    assert load(root, "demo").plan.controls == {"nca_shuffled": ""}


def test_a_band_that_lacks_seeds_does_not_silence_the_others(tmp_path: Path) -> None:
    def fate(trial: str, role: str, tokens: int) -> str:
        return "diverged" if trial == "nca_30-45-web-s1" and role == "end" else "done"

    study = Study(load(SweepBuilder(tmp_path, domains=("web",), fate=fate).build(), "demo"))
    rows = build("complexity_by_domain", study).to_dict("records")
    assert [(r["arm"], r["seeds"]) for r in rows] == [("nca 30-45", 0), ("nca 60-75", 3)]
    assert rows[1]["low"] < rows[1]["gain_nats"] < rows[1]["high"] and pd.isna(rows[0]["gain_nats"])


def test_hostile_names_in_markdown_and_csv() -> None:
    frame = pd.DataFrame({"a": ["x|y\n<b>`", 'say "hi", ok']})
    table = Table(title="T", columns=(), build=lambda study: frame)
    assert "| x\\|y \\<b\\>\\` |" in to_markdown("t", table, frame)
    assert to_csv(frame) == 'a\n"x|y\n<b>`"\n"say ""hi"", ok"\n'


@pytest.mark.parametrize(
    ("value", "text"), [(float("nan"), ""), (1 / 3, "0.333333"), (300_000, "300000"), (True, "true")]
)
def test_cells(value: object, text: str) -> None:
    assert cell(value) == text


@pytest.mark.parametrize("name", sorted(registry()))
def test_every_table_fits_a_terminal_of_80_columns(name: str, partial: Path, demo_study: Study) -> None:
    table = registry()[name]
    for study in (demo_study, Study(load(partial, "demo"))):
        text = to_text(table, table.build(study))
        assert max(map(len, text.splitlines())) <= 80


def test_a_block_repeats_the_names_that_tell_rows_apart_and_no_column_is_lost(demo_study: Study) -> None:
    table = registry()["convergence"]
    blocks = to_text(table, table.build(demo_study)).split("\n\n")
    above = [re.split(r"[:;]\s", block.rstrip(".")) for block in blocks if ": " in block.partition("\n")[0]]
    heads = [block.splitlines()[0].split() for block in blocks[len(above):]]
    assert all(h[:2] == ["domain", "arm"] for h in heads)
    assert {len(block.splitlines()) for block in blocks[len(above):]} == {16}
    said = [words.split()[0] for _, *them in above for words in them]
    assert sorted([*said, *(n for h in heads for n in h[2:])]) == sorted(c.name for c in table.columns[2:])


def test_what_is_the_same_in_all_rows_stands_above_once() -> None:
    columns = (*(Column(name, "str", "", "") for name in ("domain", "task", "arm")),
               *(Column(name, "int64", "", "") for name in ("seeds", "items")), Column("twin", "float64", "", ""))
    frame = pd.DataFrame({"domain": ["code"] * 3, "task": ["a", "a", "b"], "arm": ["x", "y", "x"], "seeds": [3] * 3,
                          "items": [9, 8, 7], "twin": [math.nan] * 3})
    table = Table(title="T", columns=columns, build=lambda study: frame)
    assert to_text(table, frame).splitlines() == [
        "All rows: domain code; seeds 3.", "", "Without a value: twin.", "",
        "task  arm  items", "a     x    9", "a     y    8", "b     x    7"]


def test_latex_has_booktabs_rules_and_escapes_every_name() -> None:
    columns = (Column("a_b", "str", "", ""), Column("n", "int64", "", ""))
    table = Table(title="T", columns=columns, build=lambda study: frame)
    frame = pd.DataFrame({"a_b": ["50% & $x^2$ \\input{~/x} #1\n{_}"], "n": [3]})
    assert to_latex(table, frame).splitlines() == [
        r"\begin{tabular}{lr}", r"\toprule", r"a\_b & n \\", r"\midrule",
        r"50\% \& \$x\textasciicircum{}2\$ \textbackslash{}input\{\textasciitilde{}/x\} \#1 \{\_\} & 3 \\",
        r"\bottomrule", r"\end{tabular}"]


@pytest.mark.parametrize(("name", "said"), [
    ("[web]", "{[}web]"), ("*x", "{*}x"), ("\u4e2d", r"\textbackslash{}u4e2d"), ("\u00e9t\u00e9", "\u00e9t\u00e9"),
    ("a\u202eb", r"a\textbackslash{}u202eb"), ("a\x1bb", r"a\textbackslash{}x1bb")])
def test_latex_takes_no_name_for_an_argument_and_has_only_what_pdflatex_can_draw(name: str, said: str) -> None:
    """`\\\\` and `\\midrule` read `[web]` and `*` at the start of the next row as their own."""
    table = Table(title="T", columns=(Column("a", "str", "", ""),), build=lambda study: frame)
    frame = pd.DataFrame({"a": [name]})
    assert to_latex(table, frame).splitlines()[4] == said + r" \\"
    assert not set("\x1b\u202e") & set(to_markdown("t", table, frame))


@pytest.mark.parametrize(("argv", "code", "says"), [
    (["claims", "demo"], 0, "nca_helps_web"), (["claims", "demo", "--format", "csv"], 0, "claim,says,domain"),
    (["claims", "demo", "--format", "latex"], 0, "toprule"),
    (["claims", "demo", "--format", "markdown"], 0, "# Claims"),
    (["claims", "demo", "--json"], 0, '"claim": "nca_helps_web"'), (["claims", "--json"], 0, '"rows": null'),
    (["claims"], 0, "verdict: supported"), (["clams", "demo"], 2, "Did you mean 'claims'?"),
    (["claims", "other"], 2, "no such sweep"),
])
def test_one_table_in_the_terminal(
    argv: list[str], code: int, says: str, demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table", *argv, "--root", str(demo)]) == code
    printed = capsys.readouterr()
    assert says in (printed.err if code else printed.out)
