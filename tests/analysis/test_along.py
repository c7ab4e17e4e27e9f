"""Budgets, ways of transferring a body, and learning rates."""

from __future__ import annotations

import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.best import resolved_best
from analysis.load import load
from analysis.study import Study
from analysis.table import to_latex, to_markdown, to_parquet
from analysis.tables import registry
from orchestrator.__main__ import main
from sweeps.language.manifest import PlanChoice
from sweeps.store import files
from sweeps.store.layout import Layout
from tests.analysis.conftest import ARMS, SCRATCH, Arm, SweepBuilder, detectable_of

WEB = ("web",)


def rows(name: str, root: Path) -> list[dict[Hashable, Any]]:
    return registry()[name].build(Study(load(root, "demo"))).to_dict("records")


def budgets(root: Path, **gains: float) -> Path:
    """Return a store with one arm per budget of `0.25x`, `1x` and `4x`, written out of order."""
    tokens = {"x4": 1_200_000, "x025": 75_000, "x1": 300_000}
    arms = (SCRATCH, *(Arm(name=f"nca {k}", upstream="nca", gain=gains[k], tokens=t) for k, t in tokens.items()))
    builder = SweepBuilder(root, domains=WEB, arms=arms)
    builder.build()
    path = Layout(root).sweep("demo").plan
    text = path.read_text()
    for key, t in tokens.items():
        was, tail = '"token_budget":"1x"', f',"upstream_tokens":{t}'
        text = text.replace(was + tail, was.replace("1x", key) + tail)
    files.replace(path, text)
    return root


def test_each_budget_stands_beside_the_next_smaller_one(tmp_path: Path) -> None:
    found = rows("budgets", budgets(tmp_path, x025=0.02, x1=0.08, x4=0.08))
    assert [(r["arm"], r["token_budget"], r["over"], r["reading"]) for r in found] == [
        ("nca", "x025", "", ""), ("nca", "x1", "nca x025", "better"), ("nca", "x4", "nca x1", "not resolved")]
    more = found[1]
    assert more["more_low"] < more["more_nats"] < more["more_high"]
    assert more["more_nats"] == pytest.approx(more["gain_nats"] - found[0]["gain_nats"])
    assert more["more_detectable"] == detectable_of(more, "more_low", "more_high")
    assert more["detectable_nats"] == detectable_of(more) and math.isnan(found[0]["more_detectable"])
    assert math.isnan(found[0]["more_nats"]) and found[0]["gain_percent"] == pytest.approx(2.0, abs=1)


def test_one_budget_is_no_table_of_budgets(demo_study: Study) -> None:
    assert registry()["budgets"].build(demo_study).empty and registry()["transfer"].build(demo_study).empty


def test_each_way_of_transferring_stands_beside_the_first(tmp_path: Path) -> None:
    gains = {(): 0.08, ("attention",): 0.01, ("mlp",): 0.079}
    arms = (SCRATCH, *(Arm(name=f"nca reinit={'+'.join(v) or 'nothing'}", upstream="nca", gain=g,
                           fields={"transfer.reinit": v}) for v, g in gains.items()))
    found = rows("transfer", SweepBuilder(tmp_path, domains=WEB, arms=arms).build())
    assert [(r["arm"], r["field"], r["value"], r["reading"]) for r in found] == [
        ("nca", "transfer.reinit", "nothing", ""), ("nca", "transfer.reinit", "attention", "worse"),
        ("nca", "transfer.reinit", "mlp", "not resolved")]
    assert found[1]["change_nats"] == pytest.approx(-0.07, abs=0.02) and found[1]["over"] == "nca reinit=nothing"
    assert found[1]["change_detectable"] == detectable_of(found[1], "change_low", "change_high")
    assert found[1]["detectable_nats"] == detectable_of(found[1])


def test_learning_rates_say_who_chose_them_and_where_the_grid_ended(tmp_path: Path) -> None:
    choices = tuple(PlanChoice(cell=f"{arm} | web", values={"pretrain.lr": 8e-3}, boundary=edge, sweep="lr_search",
                               select="ab") for arm, edge in (("scratch", ()), ("nca 30-45", ("pretrain.lr",))))
    root = SweepBuilder(tmp_path, domains=WEB, arms=(SCRATCH, ARMS[3], ARMS[4]), plan={"searched": choices}).build()
    spec = Layout(root).stage("pretrain", next(
        s.fingerprint for s in load(root, "demo").plan.trials[0].path if s.role == "end" and s.tokens == 300_000)).spec
    spec.write_text(files.to_json({"sections": {"optim": {"values": {"schedule": "wsd", "lr": 8e-3}}}}))
    found = {r["arm"]: r for r in rows("learning_rates", root)}
    assert {a: (r["source"], r["at_edge"]) for a, r in found.items()} == {
        "scratch": ("searched by lr_search", False), "nca 30-45": ("searched by lr_search", True),
        "nca 60-75": ("not yet searched", False)}
    assert found["scratch"]["pretrain_lr"] == found["nca 30-45"]["baseline_lr"] == 8e-3
    assert math.isnan(found["nca 30-45"]["pretrain_lr"]), "its spec does not say"
    assert math.isnan(found["scratch"]["gain_nats"]) and found["nca 60-75"]["gain_nats"] > 0


def test_only_a_best_whose_lead_is_resolved_is_bold(tmp_path: Path) -> None:
    table = registry()["complexity_by_domain"]
    for gain, bold in ((0.2, 1), (0.0501, 0)):
        arms = (SCRATCH, Arm(name="nca 30-45", upstream="nca", complexity="30-45", gain=gain), ARMS[4])
        frame = table.build(Study(load(SweepBuilder(tmp_path / str(bold), domains=WEB, arms=arms).build(), "demo")))
        assert to_latex(table, frame).count(r"\textbf{0.") == bold == to_markdown("t", table, frame).count("**0.")


@pytest.mark.parametrize("name", ["convergence", "inference", "learning_rates"])
def test_tables_of_gains_mark_a_best_that_is_resolved_from_all_others(name: str, tmp_path: Path) -> None:
    table = registry()[name]
    for gain, bold in ((0.2, 1), (0.0501, 0)):
        arms = (SCRATCH, Arm(name="best", upstream="nca", gain=gain), ARMS[4], Arm(name="bad", upstream="c4", gain=-1))
        frame = table.build(Study(load(SweepBuilder(tmp_path / str(bold), domains=WEB, arms=arms).build(), "demo")))
        marked = [(frame["arm"].iloc[i], column) for i, column in table.best(frame)]
        assert marked == [("best", "gain_nats")] * bold and to_latex(table, frame).count(r"\textbf{0.") == bold


@pytest.mark.parametrize(("low", "high", "better", "marked"), [
    ((0.2, 0.0), (0.4, 0.1), "higher", [(0, "v")]), ((0.0, 0.2), (0.1, 0.4), "higher", [(1, "v")]),
    ((0.2, 0.0), (0.4, 0.2), "higher", []), ((-0.2, -0.5), (-0.1, -0.3), "higher", []),
    ((-0.2, -0.5), (-0.1, -0.3), "lower", [(1, "v")]), ((0.2, math.nan), (0.4, math.nan), "higher", []),
    ((0.2,), (0.4,), "higher", []), ((), (), "higher", [])])
def test_the_best_lies_above_zero_and_above_all_others(
    low: tuple[float, ...], high: tuple[float, ...], better: str, marked: list[tuple[int, str]]
) -> None:
    """A baseline, which has no value, is no rival; one whose value has no interval is, and then nothing is known."""
    frame = pd.DataFrame({"domain": "web", "v": [0.3] * len(low), "low": low, "high": high, "better": better},
                         index=range(len(low)))
    assert resolved_best("v", "low", "high")(frame) == marked
    baseline = pd.DataFrame({"domain": ["web"], "v": [math.nan], "low": [math.nan], "high": [math.nan],
                             "better": [better]})
    both = pd.concat([frame.astype({"low": float, "high": float}), baseline])
    assert resolved_best("v", "low", "high")(both) == marked


@pytest.mark.parametrize("name", sorted(registry()))
def test_parquet_keeps_every_digit_and_says_the_units(name: str, demo_study: Study) -> None:
    from io import BytesIO

    from pyarrow import parquet

    table = registry()[name]
    frame = table.build(demo_study)
    data = to_parquet(table, frame)
    assert data == to_parquet(table, frame)
    pd.testing.assert_frame_equal(pd.read_parquet(BytesIO(data)), frame)
    fields = parquet.read_schema(BytesIO(data))
    for column in table.columns:
        about = fields.field(column.name).metadata
        assert about[b"unit"].decode() == column.unit and about[b"meaning"].decode() == column.meaning


def test_a_table_is_written_as_parquet_from_the_command_line(demo: Path, capfdbinary: Any) -> None:
    assert main(["table", "convergence", "demo", "--root", str(demo), "--format", "parquet"]) == 0
    assert capfdbinary.readouterr().out[:4] == b"PAR1"
