"""Scores item by item, as stages `downstream` leave them in `items.parquet`; read only where a table asks for them.

A bundle has them in another form, `items.json`: ids, levels and numbers, which need no pyarrow, without the texts and
answers. It names the SHA-256 of the records that it was made from. What a result does not state is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeps.errors import EnvironmentError_, NewerRecordError
from sweeps.store import files
from sweeps.store.integrity import verify
from sweeps.store.layout import AttemptFolder

STATED = "artifacts/items.parquet"
"""The records inside an attempt, as its result names them."""
IN_SHORT = "artifacts/items.json"
"""The same in a bundle."""
ALL = "all"
"""The level that holds every item."""
Floats = npt.NDArray[np.float64]
Stated = Mapping[str, Mapping[str, Any]]
"""Files of an attempt -> size and SHA-256, as its result has them."""


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


def sound(attempt: AttemptFolder, stated: Stated) -> Path | None:
    """Return the file with the items that a result states; None: gone, altered, or Parquet without pyarrow."""
    whole, short = attempt.path / STATED, attempt.path / IN_SHORT
    if whole.is_file():
        return whole if _has_pyarrow() and not verify(attempt.path, {STATED: stated[STATED]}) else None
    try:
        made_from = files.read_json(short).get("made_from")
    except NewerRecordError:
        raise
    except (OSError, ValueError):
        return None
    return short if made_from == stated[STATED].get("sha256") else None


def read_items(path: Path) -> Items | None:
    """Return the items in a file that `sound` returned; None where that has gone or changed since.

    Files of a store are never overwritten, so one that was read is not read again.
    """
    try:
        return _read(path)
    except (OSError, ValueError, KeyError):  # pyarrow's are of these
        return None


def in_short(attempt: AttemptFolder, stated: Stated) -> str:
    """Return what a bundle holds of the items that a result states; empty: they are gone or altered.

    Raises:
        EnvironmentError_: pyarrow is not installed.
    """
    if not _has_pyarrow():
        raise EnvironmentError_(f"{attempt.path / STATED} needs pyarrow, and a bundle without it would have other "
                                "intervals; pip install pyarrow")
    path = sound(attempt, stated)
    items = read_items(path) if path is not None else None
    return "" if items is None else files.seal({
        "schema_version": files.SCHEMA_VERSION, "made_from": stated[STATED]["sha256"], "ids": items.ids,
        "levels": items.levels.tolist(), "columns": {name: values.tolist() for name, values in items.columns.items()}})


def _has_pyarrow() -> bool:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return False
    return True


@lru_cache(maxsize=4096)
def _read(path: Path) -> Items:
    if path.suffix == ".json":
        raw = files.read_json(path)
        return Items(tuple(raw["ids"]), np.array(raw["levels"], dtype=np.str_), {
            name: np.array(list(map(float, values)), dtype=np.float64) for name, values in raw["columns"].items()})
    from pyarrow import parquet

    names = [field.name for field in parquet.read_schema(path) if str(field.type) == "double"]
    table = parquet.read_table(path, columns=["id", "level", *names])
    return Items(tuple(table["id"].to_pylist()), np.array(table["level"].to_pylist(), dtype=np.str_), {
        name: np.array(table[name].to_numpy(zero_copy_only=False), dtype=np.float64) for name in names})
