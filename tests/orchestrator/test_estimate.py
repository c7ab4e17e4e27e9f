"""What a plan says of sharing and of schedules, and that what it shares can be continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.estimate import longest_chain, summary
from orchestrator.plan import Planned, make_plan, stage_states
from sweeps.language.science import SegmentScience
from sweeps.language.spec import Overrides
from sweeps.store import files
from tests.orchestrator.plans import planned
from tests.orchestrator.verb_stores import SHIPPED
from workloads.training.checkpoints import _same_schedule

AXES: dict[str, Any] = {"upstream": ["none", "nca"], "complexity": ["60-75"], "token_budget": ["0.5x", "1x"],
                        "domain": ["web"], "seed": [0]}
UPDATE = 4 * 256
"""Tokens of an update at tiny; its `1x` are 292 of them."""


def told(plan: Planned) -> dict[str, Any]:
    return summary(plan, stage_states(plan, {}))


def updates(plan: Planned, kind: str) -> list[int]:
    return sorted(n.tokens // UPDATE for n in plan.graph.nodes.values() if n.spec.kind == kind)


def test_the_saving_is_what_trunks_and_branches_save(tmp_path: Path) -> None:
    plan = planned(tmp_path, axes=AXES)
    assert updates(plan, "prepretrain") == sorted([146 - 14, 14, 292 - 29 - (146 - 14), 29])
    ends = 146 + 204 + 292
    trained = 3 * (292 - 29 + 14 + 20 + 29) + (292 - 29 + 14 + 29)
    found = told(plan)
    assert found["tokens_unshared"] == (3 * ends + 146 + 292) * UPDATE
    assert found["tokens_to_run"] == trained * UPDATE
    assert found["tokens_saved"] == found["tokens_unshared"] - trained * UPDATE
    alone = [planned(tmp_path, axes={**AXES, "upstream": [u], "token_budget": [b]}, baseline={"upstream": u},
                     fields={"pretrain.ends": [end]})
             for u, b in (("none", "1x"), ("nca", "0.5x"), ("nca", "1x")) for end in ("50%", "70%", "100%")]
    each = sum(told(p.with_slots(1))["seconds"] for p in alone)
    assert 0 < found["seconds_saved"] < each - told(plan.with_slots(1))["seconds"], "each has its upstream anew"


def test_slots_shorten_a_sweep_to_its_longest_chain_and_no_further(tmp_path: Path) -> None:
    fields = {"prepretrain.decay": "10%", "pretrain.ends": ["100%"]}
    plan = planned(tmp_path, axes={**AXES, "token_budget": ["1x"]}, fields=fields)
    nodes = plan.graph.nodes
    one, two, many = (told(plan.with_slots(n))["seconds"] for n in (1, 2, 1_000))
    assert one > two > many
    [trial] = (t for t in plan.file.trials if t.upstream == "nca")
    kinds = [nodes[s.fingerprint] for s in trial.path if s.role in ("prepretrain", "body", "trunk", "end")]
    trained = {n.spec.fingerprint: n.tokens * n.flops_per_token / 25e9 for n in kinds}
    assert longest_chain(nodes, trained) == pytest.approx(sum(trained.values())), "one waits for the other"
    assert sum(trained.values()) < many < 1.5 * sum(trained.values()) + 20, "and for text, tokens and rules"
    assert longest_chain(nodes, {}) == 0.0


@pytest.mark.parametrize("fields", [
    {}, {"pretrain.ends": ["50%", "100%"]}, {"pretrain.ends": ["50%", "100%"], "pretrain.horizon": "400k"},
    {"prepretrain.horizon": "100%"},
])
@pytest.mark.parametrize("protocol", ["fair", "paper"])
def test_what_is_subtracted_can_be_continued(protocol: str, fields: dict[str, Any], tmp_path: Path) -> None:
    plan = planned(tmp_path, axes=AXES, protocol=protocol, fields=fields)
    for node in plan.graph.nodes.values():
        if node.after is None:
            branch = node.tokens and node.spec.sections["segment"].values["decay_from"]
            assert node.start_tokens == (branch or 0), node.label
            continue
        stage = plan.layout.stage(node.after.kind, node.after.fingerprint)
        files.create(stage.spec, plan.graph.nodes[node.after.fingerprint].spec.to_text())
        assert _same_schedule(stage, SegmentScience(**node.spec.sections["segment"].values)), node.label


def test_cosines_to_ends_of_their_own_are_trained_whole_and_points_on_one_are_not(tmp_path: Path) -> None:
    ends = {"pretrain.ends": ["50%", "100%"]}
    own = planned(tmp_path, axes=AXES, protocol="paper", fields=ends)
    assert updates(own, "pretrain") == 3 * [146] + 3 * [292]
    assert updates(own, "prepretrain") == [146, 146], "both budgets lie on the paper's one cosine"
    one = planned(tmp_path, axes=AXES, protocol="paper", fields={**ends, "pretrain.horizon": str(300 * UPDATE)})
    assert updates(one, "pretrain") == 6 * [146]


def test_the_papers_upstream_is_one_cosine_whose_warm_up_ends_at_1x(tmp_path: Path) -> None:
    axes = {**AXES, "token_budget": ["1x", "10x"]}
    for scale, update, ends in (("1.6b", 32 * 1_024, (5_000, 50_000)), ("tiny", UPDATE, (292, 2_929))):
        plan = planned(tmp_path, axes=axes, protocol="paper", scale=scale)
        nodes = [n for n in plan.graph.nodes.values() if n.spec.kind == "prepretrain"]
        first, last = sorted(nodes, key=lambda n: n.end_tokens)
        for node in nodes:
            segment = node.spec.sections["segment"].values
            assert segment["warmup_tokens"] == first.end_tokens == last.start_tokens
            assert segment["horizon_tokens"] == last.end_tokens
        assert (first.end_tokens, last.end_tokens) == tuple(n * update for n in ends)


def test_few_updates_are_told_at_every_scale_in_one_line(tmp_path: Path) -> None:
    few = [w for w in told(planned(tmp_path, axes=AXES))["warnings"] if "updates" in w]
    assert few == ["few updates (pretrain 292, prepretrain 146-292): under 2,000 teach little"]
    large = told(planned(tmp_path, axes=AXES, scale="10m"))["warnings"]
    assert [w for w in large if "updates" in w] == ["few updates (prepretrain 1,000): under 2,000 teach little"]


def test_ends_within_the_warm_up_and_beyond_the_horizon_are_told(tmp_path: Path) -> None:
    short = told(planned(tmp_path, axes={**AXES, "token_budget": ["0.05x"]}))["warnings"]
    assert "prepretrain.warmup, 14,336 tokens: the decay to 14,336 begins within it" in short
    assert not any("decay" in w for w in told(planned(tmp_path, axes=AXES))["warnings"])
    axes = {**AXES, "token_budget": ["10x", "20x"]}
    long = [w for w in told(planned(tmp_path, axes=axes, protocol="paper"))["warnings"] if "beyond" in w]
    assert len(long) == 1 and "prepretrain.horizon, 2,999,296 tokens: the run of 5,999,616 goes on" in long[0]


def test_a_gate_that_can_decide_nothing_is_told(tmp_path: Path) -> None:
    def said(tokens: int, **values: Any) -> list[str]:
        plan = planned(tmp_path, axes=AXES, fields={"evaluate.gate_tokens": tokens}, **values)
        return [w for w in told(plan)["warnings"] if "gate" in w]

    assert said(10 * 256) == []
    [line] = said(10 * 256 - 1)
    assert line.startswith("evaluate.gate_tokens: 9 sequences") and "withholds" not in line
    [line] = said(9 * 256, gate="require")
    assert line.endswith("so gate: require withholds all but controls")
    scratch = planned(tmp_path, axes={"upstream": ["none"], "domain": ["web"], "seed": [0]},
                      fields={"evaluate.gate_tokens": 256})
    assert not [w for w in told(scratch)["warnings"] if "gate" in w], "scratch has no gate"


@pytest.mark.parametrize(("start", "budgets", "line"), [
    ("0.5x", "[1x]", ""), ("2x", "[1x, 4x]", ""),
    ("2x", "[1x]", "mixture.weights: the law from 600k tokens on is never read; the longest budget has 299k"),
])
def test_a_law_that_no_budget_reaches_is_told(start: str, budgets: str, line: str, tmp_path: Path) -> None:
    sets = ("upstream=[none, mixture]", f"mixture.weights={{0: {{easy: 1}}, {start}: {{hard: 1}}}}",
            f"token_budget={budgets}")
    plan = make_plan(SHIPPED / "upstreams.yaml", Overrides(sets=sets), tmp_path)
    assert [w for w in told(plan)["warnings"] if "mixture" in w] == [line] * bool(line)
