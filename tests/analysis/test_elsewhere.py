"""Losses from elsewhere: a table of their own, paired only by seeds, and in no other number of the report."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis import tables
from analysis.load import load
from analysis.statistics import detectable_effect, paired_t
from analysis.study import Study
from analysis.summary import verdict_sentences
from analysis.table import to_csv
from sweeps.language.manifest import PlanLog
from sweeps.store.files import sha256_file
from tests.analysis.conftest import ENDS, PT, SweepBuilder


def study(root: Path, **logs: Path) -> Study:
    """A finished sweep with these logs of the domain code."""
    plan = {"logs": {name: PlanLog(file=str(path), sha256=sha256_file(path) if path.exists() else "0" * 64,
                                   domain="code", upstream_tokens=30_000) for name, path in logs.items()}}
    return Study(load(SweepBuilder(root, domains=("code",), plan=plan).build(), "demo"))


def table(found: Study) -> pd.DataFrame:
    return tables.registry()["elsewhere"].build(found)


def written(path: Path, rows: list[str], header: str = "tokens,val_loss,seed") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_seeds_in_common_are_paired_and_give_an_interval(tmp_path: Path) -> None:
    plain = study(tmp_path / "a")
    losses = plain.losses["code", "scratch"]
    gains = {0: 0.05, 1: 0.06, 2: 0.04}
    rows = [f"{t},{losses[s] - gains[s]},{s}" for s in losses for t in ENDS]
    [row] = table(study(tmp_path / "b", theirs=written(tmp_path / "t.csv", rows))).to_dict("records")
    expected = paired_t([gains[s] for s in losses])
    assert (row["arm"], row["over"], row["seeds"], row["paired"]) == ("theirs", "scratch", 3, 3)
    assert [row["gain_nats"], row["gain_low"], row["gain_high"], row["detectable_nats"]] == pytest.approx(
        [expected.mean, expected.low, expected.high, detectable_effect(expected.sd, expected.n)])
    assert row["t_b"] == PT and row["note"] == "paired by the seeds' numbers"


@pytest.mark.parametrize("header", ["tokens,val_loss", "tokens,val_loss,seed"])
def test_without_a_seed_in_common_means_are_compared_without_an_interval(tmp_path: Path, header: str) -> None:
    plain = study(tmp_path / "a")
    mean = sum(plain.losses["code", "scratch"].values()) / 3
    seed = ",7" if header.endswith("seed") else ""
    log = written(tmp_path / "t.csv", [f"{PT // 2},9{seed}", f"{PT},{mean - 0.1}{seed}"], header)
    [row] = table(study(tmp_path / "b", theirs=log)).to_dict("records")
    assert row["gain_nats"] == pytest.approx(0.1) and pd.isna(row["gain_low"]) and row["paired"] == 0
    assert "not paired" in row["note"]


def test_the_declared_tokens_are_charged(tmp_path: Path) -> None:
    log = written(tmp_path / "t.csv", ["50000,20", "100000,1", f"{PT},1"], "tokens,val_loss")
    [row] = table(study(tmp_path / "a", theirs=log)).to_dict("records")
    reached = 50_000 + 50_000 * (20 - row["loss_baseline"]) / 19
    assert row["charged_speedup_at_end"] == pytest.approx(PT / (reached + 30_000))


def test_one_that_ends_early_is_gone_or_changed_says_so(tmp_path: Path) -> None:
    short = written(tmp_path / "short.csv", ["1000,5"], "tokens,val_loss")
    changed = written(tmp_path / "changed.csv", [f"{PT},5"], "tokens,val_loss")
    bad = written(tmp_path / "bad.csv", [f"{PT},5"], "tokens,val_loss")
    found = study(tmp_path / "a", short=short, gone=tmp_path / "gone.csv", changed=changed, bad=bad)
    written(changed, [f"{PT},6"], "tokens,val_loss")
    written(bad, [f"{PT},much"], "tokens,val_loss")
    rows = {row["arm"]: row for row in table(found).to_dict("records")}
    assert f"has no loss at {PT:,}" in rows["short"]["note"] and pd.isna(rows["short"]["gain_nats"])
    assert "No such file" in rows["gone"]["note"] and pd.isna(rows["gone"]["loss"])
    assert rows["changed"]["note"].startswith("the file was changed since") and rows["changed"]["loss"] == 6
    assert "must be a number" in rows["bad"]["note"]


def test_nothing_else_in_the_report_knows_of_it(tmp_path: Path) -> None:
    log = written(tmp_path / "t.csv", [f"{PT},0.001,{s}" for s in range(3)])
    without, with_it = study(tmp_path / "a"), study(tmp_path / "b", theirs=log)
    assert verdict_sentences(without) == verdict_sentences(with_it)
    for name, made in tables.registry().items():
        same = to_csv(made.build(without)) == to_csv(made.build(with_it))
        assert same == (name != "elsewhere"), name
