"""The undisturbed run that disturbed ones are compared with, made once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults.live import Live, end_all


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """A run to the end."""

    live: Live
    seconds: float


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Run tests/faults/small.yaml once."""
    live = Live(root=tmp_path_factory.mktemp("undisturbed"))
    began = time.monotonic()
    live.finish("--quiet")
    return Undisturbed(live=live, seconds=time.monotonic() - began)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """End what a failed test left running."""
    yield
    end_all()
