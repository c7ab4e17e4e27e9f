"""A controller killed at every one of its points leaves nothing that running the command again does not put right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.points import check

MODULE = "tests.faults.controller_points"
FACTS = 27
"""Facts (tables, rows, weights) that every point compares, at least."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_controller_killed_before_any_durable_call_loses_and_doubles_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("points", check(MODULE, FACTS, tmp_path, "one-arm", "before, no report", 120))


@pytest.mark.slow
def test_a_controller_killed_inside_any_line_of_its_ledger_loses_and_doubles_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("points", check(MODULE, FACTS, tmp_path, "one-arm", "torn", 20))


@pytest.mark.proof
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("sort", "least"), [("before", 300), ("after", 300), ("changes", 400), ("torn", 40)])
def test_a_controller_killed_at_any_change_of_a_folder_loses_and_doubles_nothing(
    tmp_path: Path, sort: str, least: int, record_property: Callable[[str, object], None]
) -> None:
    record_property("points", check(MODULE, FACTS, tmp_path, "two-arms", sort, least))
