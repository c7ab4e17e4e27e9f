"""A small alphabet and grid, and banks made once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from workloads.upstreams.nca.bank import make_bank
from workloads.upstreams.nca.science import NcaScience, bank_fields

SEED = 7


def small(**changes: object) -> NcaScience:
    return NcaScience.model_validate({"states": 4, "grid": {"height": 8, "width": 8}, **changes})


def never(_: int) -> bool:
    return False


@pytest.fixture(scope="session")
def small_banks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Rules 0 to 39 of the stream `train`, in two blocks."""
    folder = tmp_path_factory.mktemp("banks")
    for first, count in ((0, 25), (25, 15)):
        make_bank(bank_fields(small()), seed=SEED, stream="train", first=first, count=count,
                  folder=folder / str(first), progress=never)
    return [folder / "0", folder / "25"]
