"""What all arms have alike: pre-training tokens, tokens in all, or FLOPs in all; and scratch that is longer instead."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import SweepFileError
from sweeps.language.graph import Graph
from sweeps.language.grid import Trial, trials
from sweeps.language.plugins import Registries, Registry, Upstream
from sweeps.language.read import Source
from sweeps.language.resolve import Resolver
from sweeps.language.spec import check
from sweeps.language.stages import GraphBuilder
from tests.sweeps.fakes import Empty, registries
from tests.sweeps.test_language import values

UPDATE = 4 * 256
SCRATCH_TOKENS = 300_000 // UPDATE * UPDATE
EQUAL = "pretrain.equal"
TOTALS = ["pretrain_tokens", "total_tokens", "total_flops"]


def plugins() -> Registries:
    made = registries()
    longer = Upstream(science=Empty, revision=1, trains=False, lengthens=True, control=True)
    return Registries(upstreams=Registry("upstream", {**made.upstreams, "scratch_longer": longer}),
                      domains=made.domains, tasks=made.tasks, stages=made.stages)


def plan(axes: dict[str, Any], **changes: Any) -> tuple[dict[str, Trial], Graph]:
    """Return arm -> its trial, of one domain and seed."""
    whole = {"upstream": ["none", "scratch_longer", "nca"], "domain": ["web"], "seed": [0], **axes}
    source = Source(name="t.yaml", values=values(axes=whole, **changes))
    resolver = Resolver(check(source), source, plugins())
    found = trials(resolver)
    return {t.arm: t for t in found}, GraphBuilder(plugins(), "tiny").build(found)


@given(budget=st.integers(UPDATE, 250_000), states=st.sampled_from([2, 4, 6]))
@settings(max_examples=25)
def test_totals_never_exceed_scratchs_and_miss_them_by_less_than_an_update(budget: int, states: int) -> None:
    found, _ = plan({EQUAL: TOTALS, "token_budget": [budget]}, fields={"nca.n": states})
    model = found["scratch"].core["model"]
    text, upstream = model.flops_per_token(1_024), model.flops_per_token(states**4 + 2)
    for equal, per_text, per_upstream in (("total_tokens", 1.0, 1.0), ("total_flops", text, upstream)):
        arm = found[f"nca equal={equal}"]
        total = arm.pretrain_tokens * per_text + arm.upstream_tokens * per_upstream
        assert 0 <= SCRATCH_TOKENS * per_text - total < (UPDATE + 1) * per_text
    assert found["nca equal=pretrain_tokens"].pretrain_tokens == found["scratch"].pretrain_tokens == SCRATCH_TOKENS
    longer = found["scratch_longer"]
    assert longer.pretrain_tokens == (SCRATCH_TOKENS + budget) // UPDATE * UPDATE and longer.upstream_tokens == 0


def test_an_arm_with_a_total_shares_the_upstream_and_has_its_own_horizon() -> None:
    found, graph = plan({EQUAL: TOTALS, "token_budget": ["0.25x"]})
    paths = {arm: graph.paths[trial.id] for arm, trial in found.items()}
    trained = {arm: [s.fingerprint for s in path if s.role == "prepretrain"] for arm, path in paths.items()}
    assert trained["scratch_longer"] == [] and len({tuple(t) for arm, t in trained.items() if "nca" in arm}) == 1
    ends = {arm: [s.tokens for s in path if s.role == "end"] for arm, path in paths.items()}
    for arm, trial in found.items():
        assert ends[arm][-1] == trial.pretrain_tokens
        assert ends[arm][0] == trial.pretrain_tokens // 2 // UPDATE * UPDATE
    assert {t.baseline for t in found.values()} == {"scratch-web-s0"}


def test_the_default_moves_no_stage() -> None:
    spelled, one = plan({"token_budget": ["1x"]}, fields={EQUAL: "pretrain_tokens"})
    _, other = plan({"token_budget": ["1x"]})
    assert set(one.nodes) == set(other.nodes) and set(spelled) == {"scratch", "scratch_longer", "nca"}


def test_budgets_of_longer_scratch_are_arms_of_their_own() -> None:
    found, _ = plan({"token_budget": ["0.5x", "1x"]})
    assert found["scratch_longer 0.5x"].pretrain_tokens < found["scratch_longer 1x"].pretrain_tokens


def test_an_upstream_that_leaves_nothing_to_pre_train_is_refused() -> None:
    with pytest.raises(SweepFileError, match="300000 tokens less the 299008 that pretrain.equal = total_tokens"):
        plan({"token_budget": ["1x"]}, fields={EQUAL: "total_tokens"})
