"""Every shipped sweep plans at every scale, and the published schema is the schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.estimate import summary
from orchestrator.plan import make_plan, stage_states
from orchestrator.texts import epochs
from sweeps.errors import SweepFileError
from sweeps.language.presets import SCALES
from sweeps.language.search import cell_keys
from sweeps.language.spec import Overrides, schema_text

SWEEPS = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))
OTHER_DATA = {"text.domain", "c4.files", "tokenizer.corpora", "documents.validation_share"}
"""Departures of the paper's own sweeps: the presets read the embedded text, which is there on every machine."""


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_a_shipped_sweep_plans_at_every_scale(path: Path, scale: str, tmp_path: Path) -> None:
    planned = make_plan(path, Overrides(scale=scale), tmp_path)
    choices = len(planned.file.search.brackets) if planned.file.search else 0
    assert planned.trials and len(planned.file.stages) == len(planned.graph.nodes) + choices
    assert all(t.baseline for t in planned.trials)


@pytest.mark.parametrize("protocol", ["fair", "paper", "release"])
def test_a_shipped_sweep_plans_under_every_protocol(protocol: str, tmp_path: Path) -> None:
    path = next(p for p in SWEEPS if p.stem == "complexity_by_domain")
    planned = make_plan(path, Overrides(sets=(f"protocol={protocol}",)), tmp_path)
    ends = {s.tokens for t in planned.file.trials for s in t.path if s.role == "end"}
    assert len(ends) == (3 if protocol == "fair" else 1)


def test_the_schema_beside_the_sweeps_is_the_schema() -> None:
    shipped = (SWEEPS[0].parent / "schema.json").read_text(encoding="utf-8")
    assert shipped == schema_text(), "run: orchestrator schema > sweeps/schema.json"


def test_the_main_sweep_is_the_grid_that_it_says(tmp_path: Path) -> None:
    planned = make_plan(next(p for p in SWEEPS if p.stem == "complexity_by_domain"), Overrides(), tmp_path)
    assert len(planned.trials) == 7 * 3 * 3
    trunks = {s.fingerprint for t in planned.file.trials for s in t.path if s.role == "prepretrain"}
    # six trained arms, three seeds, a trunk point and a decay branch: shared by the three domains
    assert len(trunks) == 6 * 3 * 2
    assert planned.file.controls == {"nca_shuffled": "nca"}


def test_the_controls_read_the_rules_of_nca_and_no_others(tmp_path: Path) -> None:
    planned = make_plan(next(p for p in SWEEPS if p.stem == "controls"), Overrides(), tmp_path)
    assert set(planned.file.controls) == {"init_rescaled", "nca_one_rule", "nca_shuffled", "nca_static", "nca_unigram"}
    rules = {t.arm: {s.fingerprint for s in t.path if s.kind == "rules"} for t in planned.file.trials if t.seed == 0}
    nodes = planned.graph.nodes
    train = {f for f in rules["nca"] if nodes[f].spec.sections["block"].values["stream"] == "train"}
    assert rules["nca_shuffled"] == rules["nca"] and rules["nca_static"] == set()
    for arm in ("nca_unigram", "nca_one_rule"):
        assert rules[arm] <= train
        gate = next(nodes[s.fingerprint] for t in planned.file.trials if t.arm == arm for s in t.path
                    if s.role == "gate" and t.seed == 0)
        read = {role: {i.fingerprint for i in gate.spec.inputs if i.role == role} for role in ("bank", "bank_held_out")}
        assert read["bank"] == read["bank_held_out"] == rules[arm], arm


def test_the_rules_of_a_law_are_read_wherever_a_branch_begins(tmp_path: Path) -> None:
    """A decay branch that ends at sequence 1,024 has read as many rules as a law of 1,024 sequences, but not those."""
    sets = (f"token_budget=[{1024 * 256}]", "nca_unigram.law_sequences=1024")
    planned = make_plan(next(p for p in SWEEPS if p.stem == "controls"), Overrides(sets=sets), tmp_path)
    segments = [planned.graph.nodes[s.fingerprint].spec for t in planned.file.trials
                if t.arm == "nca_unigram" and t.seed == 0 for s in t.path if s.role == "prepretrain"]
    read = [[i.fingerprint for i in spec.inputs if i.kind == "rules"] for spec in segments]
    assert len(read) == 2 and read[0] == read[1] and len(read[0]) == 2, "trunk and branch, two blocks of 600 each"


def test_one_rule_stays_one_whatever_nca_has(tmp_path: Path) -> None:
    path = next(p for p in SWEEPS if p.stem == "controls")
    planned = make_plan(path, Overrides(sets=("nca.rules.unique=16",)), tmp_path)
    unique = {t.upstream: t.trained.science.rules.unique for t in planned.trials if t.upstream.startswith("nca")}
    assert unique.pop("nca_one_rule") == 1 and set(unique.values()) == {16}
    with pytest.raises(SweepFileError, match="nca_one_rule has 1 rule: leave the field out"):
        make_plan(path, Overrides(sets=("nca_one_rule.rules.unique=5",)), tmp_path)


def test_the_paper_at_its_own_size_has_the_published_budgets_and_says_what_they_cost(tmp_path: Path) -> None:
    planned = make_plan(next(p for p in SWEEPS if p.stem == "paper_1.6b"), Overrides(), tmp_path)
    update = 512 * 1024
    for domain, published, lr in (
            ("openwebtext", 9.02e9, 5e-4), ("open_web_math", 4.19e9, 5e-4), ("codeparrot", 12.58e9, 2e-4)):
        found = [t for t in planned.trials if t.domain == domain]
        assert {t.pretrain_tokens for t in found} == {int(published) // update * update}
        assert {t.core["pretrain"].lr for t in found} == {lr}
        bands = {f"nca {band}" for band in ("20-30", "30-40", "40-50", "50-100")}
        assert {t.arm for t in found} == {"scratch", "text", "dyck"} | bands
    [warmup] = {n.spec.sections["segment"].values["warmup_tokens"] for n in planned.graph.nodes.values()
                if n.label.startswith("pretrain codeparrot")}
    assert warmup == 750 * update
    assert {t.upstream_tokens for t in planned.trials} == {0, 5_000 * 32 * 1024}
    assert {d.field for d in planned.file.departures} == OTHER_DATA
    totals = summary(planned, stage_states(planned, {}))
    flops = sum(node.tokens * node.flops_per_token for node in planned.graph.nodes.values())
    assert totals["gpu_hours"] == pytest.approx(flops / (0.4 * 989e12) / 3600, rel=0.01)
    assert not list(epochs(planned.graph)), "as published: one epoch"
    assert totals["basis"] == "guessed at 40% of the 989 TFLOP/s of an H100 or H200 in bf16"
    stages = sum(bool(node.tokens) for node in planned.graph.nodes.values())
    data = 2 * (39.8e9 + 56.7e9 + 50e9 + 3.2e9)  # texts and corpora: openwebtext, open_web_math, codeparrot, C4
    assert totals["storage_bytes"] == pytest.approx(data + stages * 32 * (1_610_713_088 + 2 * 16_384 * 2_048), rel=1e-3)


def test_ten_times_the_papers_budget_goes_on_from_it(tmp_path: Path) -> None:
    planned = make_plan(next(p for p in SWEEPS if p.stem == "paper_budgets"), Overrides(), tmp_path)
    found = {s.fingerprint: s.tokens for t in planned.file.trials for s in t.path if s.role == "prepretrain"}
    trained = [planned.graph.nodes[f].tokens for f in found]
    assert len(found) == 2 * 2 * 4 and sum(trained) == 2 * 4 * 50_000 * 32 * 1024
    assert {t.pretrain_tokens for t in planned.trials} == {9_020_000_000 // (512 * 1024) * 512 * 1024}
    assert {d.field for d in planned.file.departures} == OTHER_DATA


@pytest.mark.parametrize("ranks", [1, 4])
def test_more_ranks_cost_the_same_and_take_less_time(ranks: int, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    text = next(p for p in SWEEPS if p.stem == "token_budget").read_text(encoding="utf-8")
    several = text.replace("run: {cluster: local", f"run: {{cluster: memory, slots: 1, ranks: {ranks}")
    path.write_text(several, encoding="utf-8")
    planned = make_plan(path, Overrides(scale="400m"), tmp_path)
    totals = summary(planned, stage_states(planned, {}))
    flops = sum(node.tokens * node.flops_per_token for node in planned.graph.nodes.values())
    assert totals["gpu_hours"] == pytest.approx(flops / (0.4 * 989e12) / 3600, rel=0.02)
    assert totals["seconds"] == pytest.approx(flops / (0.4 * 989e12) / ranks, rel=0.02)


def test_the_shipped_search_chooses_for_every_arm_of_the_main_sweep(tmp_path: Path) -> None:
    plans = {path.stem: make_plan(path, Overrides(), tmp_path) for path in SWEEPS
             if path.stem in ("lr_search", "complexity_by_domain")}
    search, main = plans["lr_search"], plans["complexity_by_domain"]
    assert search.file.search is not None
    keys = cell_keys(main.trials, main.registries, "tiny")
    assert {b.cell: b.key for b in search.file.search.brackets} == keys
    assert not set(search.sweep.axes["seed"]) & set(main.sweep.axes["seed"])
