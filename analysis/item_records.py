"""Scores item by item, as stages `downstream` leave them in `items.parquet`; read only where a table asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

RECORDS = "items.parquet"
"""File among a stage's artifacts."""
ALL = "all"
"""The level that holds every item."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Items:
    """The items of one task on one model."""

    ids: tuple[str, ...]
    levels: npt.NDArray[np.str_]
    columns: Mapping[str, Floats]
    """Rung, or `RUNG.REFERENCE` -> its value for each item; NaN where it has none."""

    def of(self, level: str, column: str) -> tuple[tuple[str, ...], Floats] | None:
        """Return the level's items that have a value, and these values; None where no item has one."""
        if column not in self.columns:
            return None
        kept = np.isfinite(self.columns[column]) & ((self.levels == level) | (level == ALL))
        return tuple(np.array(self.ids)[kept].tolist()), self.columns[column][kept]


def read_items(path: Path) -> Items | None:
    """Return a stage's records; None where the file is missing or unreadable, or pyarrow is not installed.

    Files of a store are never overwritten, so one that was read is not read again.
    """
    try:
        from pyarrow import ArrowException
    except ImportError:
        return None
    try:
        return _read(path)
    except (OSError, ArrowException):
        return None


@lru_cache(maxsize=4096)
def _read(path: Path) -> Items:
    from pyarrow import parquet

    names = [field.name for field in parquet.read_schema(path) if str(field.type) == "double"]
    table = parquet.read_table(path, columns=["id", "level", *names])
    return Items(tuple(table["id"].to_pylist()), np.array(table["level"].to_pylist(), dtype=np.str_), {
        name: np.array(table[name].to_numpy(zero_copy_only=False), dtype=np.float64) for name in names})
