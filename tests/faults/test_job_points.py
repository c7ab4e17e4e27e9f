"""A training job killed at every one of its points: the next one goes on, to the same rows, scores and weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.points import check

MODULE = "tests.faults.job_points"
FACTS = 5
"""Facts (tables, rows, weights) that every point compares, at least."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("sort", "least"), [("before", 50), ("being written", 10)])
def test_a_training_job_killed_before_any_durable_call_or_within_a_checkpoint_trains_the_same_model(
    tmp_path: Path, sort: str, least: int, record_property: Callable[[str, object], None]
) -> None:
    """Its checkpoints are written while it trains on: taken and not yet written, half-written, and not yet committed
    ones do not count."""
    record_property("points", check(MODULE, FACTS, tmp_path, "trunk", sort, least))


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_a_training_job_that_waits_for_its_checkpoints_too(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("points", check(MODULE, FACTS, tmp_path, "waiting", "before", 50))


@pytest.mark.proof
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("sort", "least"), [("before", 80), ("after", 80), ("changes", 100)])
def test_a_training_job_killed_at_any_change_of_a_folder_trains_the_same_models(
    tmp_path: Path, sort: str, least: int, record_property: Callable[[str, object], None]
) -> None:
    record_property("points", check(MODULE, FACTS, tmp_path, "trunk-and-end", sort, least))
