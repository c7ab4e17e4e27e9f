"""Divergence from end to end: a real training with an absurd learning rate, its record, and what the tables say."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from analysis.load import load
from analysis.study import Study
from analysis.tables import convergence, missing
from sweeps.errors import NewerRecordError
from sweeps.language.manifest import PlanFile
from sweeps.language.science import EngineScience, ModelScience, OptimScience, SeedScience, SegmentScience
from sweeps.language.stage import Execution, StageSpec, Ticket, TicketStage, section
from sweeps.store import claims, files, records
from sweeps.store.layout import Layout
from tests.analysis.conftest import SCRATCH, Arm, SweepBuilder
from tests.workloads.test_run import run
from workloads.registry import load_registries

ARM = Arm(name="shuffle_dyck", upstream="shuffle_dyck")
TRIAL = "shuffle_dyck-web-s0"
UPDATE = 4 * 16


def wild() -> StageSpec:
    """A pre-pre-training of 40 updates at a learning rate of 1e30, without clipping."""
    registries = load_registries()
    upstream, kind = registries.upstreams.find("shuffle_dyck"), registries.stages.find("prepretrain")
    return StageSpec(
        kind="prepretrain", revisions={"stage:prepretrain": kind.revision, "upstream:shuffle_dyck": upstream.revision},
        sections={
            "model": section(ModelScience(layers=1, width=16, mlp=32, heads=2, sequence_length=16)),
            "optim": section(OptimScience(batch_sequences=4, lr=1e-2, clip=0.0).model_copy(update={"lr": 1e30})),
            "engine": section(EngineScience()), "seed": section(SeedScience(seed=0)),
            "segment": section(SegmentScience(end_tokens=40 * UPDATE, warmup_tokens=0)),
            "upstream": section(upstream.science(), "upstream:shuffle_dyck"),
        },
    )


def trained(root: Path, spec: StageSpec) -> int:
    """Run the stage as a job does; return the exit code."""
    claims.take(Layout(root).stage(spec.kind, spec.fingerprint), sweep="demo", term=1, submission="b", after=0)
    stage = TicketStage(spec=spec, claim=1)
    return run(Ticket(root=str(root), sweep="demo", submission="b", execution=Execution(), stages=(stage,)))


def with_stage(root: Path, spec: StageSpec) -> PlanFile:
    """The stored plan, its trial of the arm trained on this stage."""
    plan = PlanFile.model_validate_json(Layout(root).sweep("demo").plan.read_text(encoding="utf-8"))
    raw = plan.model_dump()
    for trial in raw["trials"]:
        for step in trial["path"]:
            if trial["id"] == TRIAL and step["role"] == "prepretrain":
                step["fingerprint"] = spec.fingerprint
    return PlanFile.model_validate(raw)


def test_a_training_that_diverges_is_a_result_that_is_shown_and_never_scored(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path, arms=(SCRATCH, ARM), domains=("web",), seeds=1,
                        fate=lambda trial, role, tokens: "absent" if trial == TRIAL else "done").build()
    spec = wild()
    stage = Layout(root).stage(spec.kind, spec.fingerprint)
    assert trained(root, spec) == 0
    result = records.read_result(stage)
    assert result is not None and (result.status, dict(result.scores)) == ("diverged", {})
    rows = list(records.own_rows(stage.attempt(1)))
    assert rows and str(rows[-1].values["loss"]) in ("nan", "inf")
    assert not records.checkpoints(stage) and not stage.attempt(1).failure.exists()
    assert not records.damage_of_result(stage)
    assert trained(root, spec) == 0 and len(list(stage.attempts.iterdir())) == 1, "not retried"

    study = Study(load(root, "demo", with_stage(root, spec)))
    assert study.trials[TRIAL]["status"] == "diverged"
    counted = {"planned": 1, "scored": 0, "diverged": 1, "withheld": 0, "missing": 0}
    assert study.counts("web", "shuffle_dyck") == counted
    assert TRIAL not in set(study.records.curves["trial"])
    scores = study.records.scores
    assert set(scores.loc[scores["trial"] == TRIAL, "role"]) <= {"twin"}, "only the untrained twin that arms share"
    table = convergence.PLUGIN.build(study).set_index("arm")
    row = table.to_dict("index")["shuffle_dyck"]
    assert (row["seeds_planned"], row["seeds"], row["diverged"]) == (1, 0, 1) and math.isnan(row["gain_nats"])
    shown = missing.PLUGIN.build(study)
    assert {"prepretrain"} == set(shown.loc[shown["status"] == "diverged", "what"])
    assert not shown.loc[shown["trial"] == TRIAL, "scored"].any()


def test_lines_of_odd_shapes_and_versions_are_counted_or_refused_by_the_tables(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path, arms=(SCRATCH,), domains=("web",), seeds=1).build()
    before = Study(load(root, "demo"))
    trial = before.records.plan.trials[0]
    step = next(s for s in trial.path if s.role == "end")
    metrics = Layout(root).stage(step.kind, step.fingerprint).attempt(1).metrics
    sound = metrics.read_text()
    odd = "".join(files.encode_line(n, fields) for n, fields in (
        (50, {"tokens": "many", "kind": "end", "values": {"loss": 1.0}}), (51, {"kind": "end", "tokens": 5}),
        (52, {"tokens": 5, "kind": "end", "values": [1.0]}),
        (53, {"tokens": 5, "kind": "end", "values": {"loss": "?"}}),
    ))
    metrics.write_text(sound + odd + sound + sound[: len(sound) // 2] + sound)
    after = load(root, "demo")
    assert after.curves.equals(before.records.curves), "repeated lines count once, torn and merged ones not at all"
    row = after.steps[(after.steps["fingerprint"] == step.fingerprint)].iloc[0]
    assert row["damaged_lines"] == 5 and row["status"] == "done"


def test_a_damaged_lineage_is_a_status_and_a_newer_record_a_refusal(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path, arms=(SCRATCH,), domains=("web",), seeds=1).build()
    trial = Study(load(root, "demo")).records.plan.trials[0]
    last = max((s for s in trial.path if s.role == "end"), key=lambda s: s.tokens)
    stage = Layout(root).stage(last.kind, last.fingerprint)
    parent = stage.attempt(1).parent
    for text in ("{", "[]", '{"kind":"pretrain"}'):
        parent.write_text(text)
        assert load(root, "demo").trials["status"].iloc[0] == "damaged"
    parent.write_text(files.to_json(
        {"kind": stage.kind, "fingerprint": stage.fingerprint, "attempt": 1, "tokens": last.tokens}))
    assert load(root, "demo").trials["status"].iloc[0] == "damaged", "it is its own ancestor"
    files.replace(stage.result, files.seal({"schema_version": 2}))
    with pytest.raises(NewerRecordError, match="newer release"):
        load(root, "demo")
