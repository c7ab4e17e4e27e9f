"""The learning rate against values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import UsageError
from sweeps.language.science import OptimScience, SegmentScience
from workloads.training.schedule import learning_rate, update_rate

WSD = OptimScience(lr=1.0, final_lr_ratio=0.1)
BRANCH = SegmentScience(end_tokens=1000, decay_from=800, warmup_tokens=100)


@pytest.mark.parametrize(("tokens", "rate"), [
    (0, 0.0), (50, 0.5), (100, 1.0), (500, 1.0), (800, 1.0), (900, 0.55), (1000, 0.1),
])
def test_wsd_by_hand(tokens: int, rate: float) -> None:
    assert learning_rate(WSD, BRANCH, tokens) == pytest.approx(rate)


@pytest.mark.parametrize(("tokens", "rate"), [(50, 0.5), (100, 1.0), (550, 0.5), (1000, 0.0), (1200, 0.0)])
def test_cosine_by_hand(tokens: int, rate: float) -> None:
    optim = OptimScience(lr=1.0, schedule="cosine")
    segment = SegmentScience(end_tokens=1000, horizon_tokens=1000, warmup_tokens=100)
    assert learning_rate(optim, segment, tokens) == pytest.approx(rate, abs=1e-12)


def test_cosine_without_a_horizon_is_refused() -> None:
    with pytest.raises(UsageError, match="horizon_tokens"):
        learning_rate(OptimScience(schedule="cosine"), SegmentScience(end_tokens=100), 50)


def test_no_update_has_rate_zero() -> None:
    optim = OptimScience(lr=1.0)
    segment = SegmentScience(end_tokens=100, decay_from=80, warmup_tokens=20)
    rates = [update_rate(optim, segment, u, 10) for u in range(10)]
    assert rates == pytest.approx([0.25, 0.75, 1, 1, 1, 1, 1, 1, 0.75, 0.25])


@given(st.integers(0, 79))
def test_a_branch_has_the_rates_of_its_trunk_until_it_leaves(update: int) -> None:
    trunk = SegmentScience(end_tokens=5000, warmup_tokens=100)
    assert update_rate(WSD, BRANCH, update, 10) == update_rate(WSD, trunk, update, 10)
