"""Records -> frames: what counts, what is drawn, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import schema
from analysis.load import arm_labels, load, read_plan
from analysis.study import Study
from sweeps.errors import RecordError, UsageError
from sweeps.language.manifest import PlanFile
from sweeps.store import files, records
from sweeps.store.layout import Layout
from tests.analysis.conftest import ENDS, PT, SweepBuilder


def pair_of(study: Study, trial: str) -> dict[Hashable, Any]:
    """Return one row of the pairs."""
    return next(row for row in study.pairs.to_dict("records") if row["trial"] == trial)


def test_frames_have_their_schema(demo_study: Study) -> None:
    found = demo_study.records
    for frame, columns in ((found.trials, schema.TRIALS), (found.curves, schema.CURVES),
                           (found.scores, schema.SCORES), (found.steps, schema.STEPS)):
        assert list(frame.columns) == [c.name for c in columns]
        assert [str(t) for t in frame.dtypes] == [c.dtype for c in columns]


def test_only_annealed_ends_are_scored(demo_study: Study) -> None:
    curves = demo_study.records.curves
    assert len(demo_study.records.trials) == 45 and set(demo_study.records.trials["status"]) == {"scored"}
    scored = curves[curves["scored"]]
    assert len(scored) == 45 * 3 and set(scored["tokens"]) == set(ENDS)
    drawn = curves[~curves["scored"] & (curves["trial"] == "scratch-web-s0")]
    assert list(drawn["tokens"]) == list(range(15_000, 285_000, 15_000)), "the trunk's lineage, each point once"


def test_partial_sweeps_keep_every_trial(partial: Path) -> None:
    found = Study(load(partial, "demo"))
    status = {name: row["status"] for name, row in found.trials.items()}
    assert status["nca_30-45-web-s0"] == "diverged"
    assert status["nca_60-75-code-s1"] == "unscored"
    assert status["scratch-math-s1"] == "missing"
    assert len(status) == 30
    pair = pair_of(found, "nca_60-75-math-s1")
    assert pair["status"] == "baseline missing" and math.isnan(pair["gain_nats"])
    counts = found.counts("web", "nca 30-45")
    assert counts == {"planned": 2, "scored": 1, "diverged": 1, "withheld": 0, "missing": 0}


def test_a_missing_earlier_end_leaves_the_gain_but_no_crossing(tmp_path: Path) -> None:
    def fate(trial: str, role: str, tokens: int) -> str:
        return "started" if trial == "nca_60-75-web-s0" and role == "end" and tokens < PT else "done"

    found = Study(load(SweepBuilder(tmp_path, domains=("web",), seeds=1, fate=fate).build(), "demo"))
    pair = pair_of(found, "nca_60-75-web-s0")
    assert pair["status"] == "scored" and math.isfinite(pair["gain_nats"])
    assert not pair["crossing_known"] and math.isnan(pair["speedup"])


def test_cosine_scores_validation_rows_of_committed_ends(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path, domains=("web",), seeds=1, cosine=True).build()
    curves = load(root, "demo").curves
    assert curves["scored"].all() and list(curves[curves["trial"] == "scratch-web-s0"]["tokens"])[-1] == PT
    assert (curves["trial"] == "scratch-web-s0").sum() == 20


def test_a_running_cosine_stage_is_drawn_only(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path, domains=("web",), seeds=1, cosine=True,
                        fate=lambda trial, role, tokens: "started" if role == "end" else "done").build()
    curves = load(root, "demo").curves
    assert len(curves) and not curves["scored"].any()


def test_damaged_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path, domains=("web",), seeds=1).build()
    plan = read_plan(root, "demo")
    step = next(s for s in plan.trials[0].path if s.role == "end" and s.tokens == PT)
    metrics = Layout(root).stage(step.kind, step.fingerprint).attempt(1).metrics
    metrics.write_text(metrics.read_text().replace('"loss":4', '"loss":3'))
    found = load(root, "demo")
    row = found.steps[found.steps["fingerprint"] == step.fingerprint].iloc[0]
    assert (row["damaged_lines"], row["status"]) == (1, "unscored")
    assert found.trials["status"].iloc[0] == "unscored"


def test_rows_along_the_lineage_of_retried_attempts(tmp_path: Path) -> None:
    """An end written before a crash counts where the committed attempt continued from it."""
    root = SweepBuilder(tmp_path, domains=("web",), seeds=1).build()
    plan = read_plan(root, "demo")
    step = next(s for s in plan.trials[0].path if s.role == "end" and s.tokens == PT)
    stage = Layout(root).stage(step.kind, step.fingerprint)
    stage.result.unlink()
    attempt = records.open_attempt(stage, {})
    attempt.set_parent(records.Parent(kind=step.kind, fingerprint=step.fingerprint, attempt=1, tokens=PT))
    attempt.commit({})
    attempt.close()
    assert load(root, "demo").trials["status"].iloc[0] == "scored"
    rows = records.stage_rows(Layout(root), stage)
    assert [r.tokens for r in rows if r.kind == "end"] == [PT]


def test_a_damaged_result_is_a_status_not_a_crash(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path, domains=("web",), seeds=1).build()
    step = next(s for s in read_plan(root, "demo").trials[0].path if s.role == "end" and s.tokens == PT)
    Layout(root).stage(step.kind, step.fingerprint).result.write_text("{")
    assert load(root, "demo").trials["status"].iloc[0] == "damaged"


def test_no_record_at_all(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path, fate=lambda *_: "absent").build()
    found = load(root, "demo")
    assert set(found.trials["status"]) == {"missing"} and found.curves.empty and len(found.steps)


def test_unknown_sweep_names_the_nearest(demo: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'demo'"):
        load(demo, "dem")


def test_damaged_plan(tmp_path: Path) -> None:
    files.replace(Layout(tmp_path).sweep("demo").plan, "{}")
    with pytest.raises(RecordError, match="plan.json is damaged"):
        load(tmp_path, "demo")


def test_further_axes_join_the_arm_only_where_arms_repeat(demo: Path) -> None:
    plan = read_plan(demo, "demo")
    assert set(arm_labels(plan).values()) == {t.arm for t in plan.trials}
    values = {t.id: {"transfer.embedding_init": 0.02} for t in plan.trials}
    double = PlanFile(**plan.model_dump() | {"trials": [
        t.model_dump() | {"id": t.id + suffix, "fields": values[t.id] if suffix else {"transfer.embedding_init": 1.0}}
        for t in plan.trials for suffix in ("", "-b")
    ]})
    assert "scratch, embedding_init 0.02" in arm_labels(double).values()


def test_gains_are_paired_by_seed(demo_study: Study) -> None:
    gains = demo_study.gains("web", "nca 60-75")
    losses = demo_study.losses
    assert gains == {s: losses["web", "scratch"][s] - losses["web", "nca 60-75"][s] for s in (0, 1, 2)}
    assert demo_study.gains("web", "nca 60-75", "scratch") == pytest.approx(gains)
    assert isinstance(demo_study.pairs, pd.DataFrame) and demo_study.effect("web", "no such arm").n == 0
