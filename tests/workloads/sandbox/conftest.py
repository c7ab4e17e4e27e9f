"""A sandbox of each kind that this machine has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from workloads.sandbox.box import Box
from workloads.sandbox.confine import Limits
from workloads.sandbox.kinds import LADDER, Kind


@pytest.fixture(scope="session", params=LADDER, ids=lambda kind: str(kind.name))
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    if reason := found.missing():
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def box(kind: Kind) -> Iterator[Box]:
    with Box(kind=kind, limits=Limits(wall_s=20.0, cpu_s=5, output_kb=64), workers=1) as opened:
        yield opened
