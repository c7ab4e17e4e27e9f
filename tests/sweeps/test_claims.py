"""Claims: exactly one taker holds each number, whoever races."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.errors import NewerRecordError
from sweeps.store import claims
from sweeps.store.layout import Layout, StageFolder

FINGERPRINT = "0" * 32


def stage_in(root: Path) -> StageFolder:
    """A stage folder that does not exist yet."""
    return Layout(root).stage("toy", FINGERPRINT)


def test_nobody_holds_at_first(tmp_path: Path) -> None:
    assert claims.holder(stage_in(tmp_path)) is None


def test_the_highest_claim_holds(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    assert claims.take(stage, sweep="a", term=1, submission="a-1", after=0) == 1
    assert claims.take(stage, sweep="b", term=1, submission="b-1", after=0) is None
    assert claims.take(stage, sweep="b", term=2, submission="b-2", after=1) == 2
    assert claims.holder(stage) == claims.Claim(number=2, sweep="b", term=2, submission="b-2")


def test_claims_are_ordered_as_numbers(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    for k in range(11):
        claims.take(stage, sweep="a", term=1, submission=f"s{k + 1}", after=k)
    held = claims.holder(stage)
    assert held is not None
    assert (held.number, held.submission) == (11, "s11")


@pytest.mark.parametrize("left", ["", "{", "null", '{"sweep": "a"}'])
def test_a_damaged_claim_is_nobodys_and_the_next_one_follows_it(tmp_path: Path, left: str) -> None:
    stage = stage_in(tmp_path)
    stage.claims.mkdir(parents=True)
    (stage.claims / "3.json").write_text(left)
    held = claims.holder(stage)
    assert held == claims.Claim(number=3, sweep=claims.NOBODY, term=0, submission=claims.NOBODY)
    assert claims.take(stage, sweep="b", term=1, submission="b-1", after=held.number) == 4


def test_a_claim_of_a_newer_release_is_not_passed_over(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    stage.claims.mkdir(parents=True)
    (stage.claims / "1.json").write_text('{"schema_version": 99}')
    with pytest.raises(NewerRecordError, match="1.json"):
        claims.holder(stage)


@given(takers=st.integers(2, 6), rounds=st.integers(1, 3))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_exactly_one_taker_holds_each_number(
    tmp_path_factory: pytest.TempPathFactory, takers: int, rounds: int
) -> None:
    stage = stage_in(tmp_path_factory.mktemp("store"))
    won: list[tuple[int, str]] = []

    def contend(name: str, barrier: threading.Barrier) -> None:
        for k in range(rounds):
            barrier.wait()
            number = claims.take(stage, sweep=name, term=1, submission=f"{name}-{k}", after=k)
            if number is not None:
                won.append((number, f"{name}-{k}"))

    start = threading.Barrier(takers)
    threads = [threading.Thread(target=contend, args=(f"t{i}", start)) for i in range(takers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for number, _ in won) == list(range(1, rounds + 1))
    held = claims.holder(stage)
    assert held is not None
    assert (held.number, held.submission) == max(won)


def test_interest(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    assert claims.interested(stage) == []
    for name in ("b", "a", "b"):
        claims.add_interest(stage, name)
    assert claims.interested(stage) == ["a", "b"]
    claims.drop_interest(stage, "b")
    claims.drop_interest(stage, "b")
    assert claims.interested(stage) == ["a"]
