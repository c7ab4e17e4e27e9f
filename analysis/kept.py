"""The frames of a large sweep, kept as Parquet beside its plan, so that only what has changed is read again.

The records stay the truth. Beside the frames stands what each trial was read from: every file that was looked at, or
looked for in vain, with its inode, size and time of change *before* it was read. A trial's rows are taken from the
frames only while all of these are as they were; else its records are read again, as are all where the plan is another
one. Deleting the folder, damaging it, not being able to write it, or lacking pyarrow costs time and nothing else.
Measured figures: `benchmarks/analysis.py`.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.schema import FRAMES, LOOKED, frame_of
from sweeps.errors import RecordError, StorageError
from sweeps.store import files

WORTH = 50_000
"""Evaluations that have to be read anew before the files are written: half a second of decoding."""
VERSION = 2
"""Of the files; another one is not read."""
MANIFEST = "MANIFEST.json"
Identity = tuple[int, int, int]
"""Inode, size, time of change in nanoseconds."""
ABSENT: Identity = (0, 0, 0)
Ints = npt.NDArray[np.int64]
Looked = dict[str, Identity]
"""Path -> what was there when it was looked at."""


def look(looked: Looked, *paths: Path) -> None:
    """Note what is at these paths, before they are read; the first look counts."""
    for path in map(str, paths):
        if path not in looked:
            looked[path] = _identity(path)


def _identity(path: str) -> Identity:
    try:
        stat = os.stat(path)  # noqa: PTH116 - a hundred thousand: half the time would go into pathlib
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


class Kept:
    """The rows of the trials that are as they were when they were read."""

    def __init__(self, root: Path, folder: Path | None, plan: str) -> None:
        """Take what is kept in `folder` of a store's plan (its JSON); None: nothing is."""
        self._folder, self._prefix = folder, f"{root}/"
        self._key = hashlib.sha256(f"{VERSION} {sorted(FRAMES.items())} {plan}".encode()).hexdigest()
        self._frames: dict[str, pd.DataFrame] = {}
        self._trials: frozenset[str] = frozenset()
        with suppress(ImportError, OSError, ValueError, KeyError, RecordError):
            if folder is not None:
                self._take(folder)  # else there are none yet, or they are damaged: the records are read

    def __contains__(self, trial: str) -> bool:
        """Return whether a trial's rows need not be read."""
        return trial in self._trials

    def with_new(self, new: Mapping[str, pd.DataFrame], trials: Iterable[str]) -> dict[str, pd.DataFrame]:
        """Return each of `schema.FRAMES` with the rows that are kept and the new ones, in the order of trials."""
        places = {trial: place for place, trial in enumerate(trials)}
        kept = {trial: places[trial] for trial in self._trials}
        return {name: _joined(self._frames[name], kept, rows, places) if kept else rows for name, rows in new.items()}

    def save(self, frames: Mapping[str, pd.DataFrame], looked: Mapping[str, Looked], *, read: int) -> None:
        """Keep whole frames, where it is worth it and can be written.

        Args:
            frames: what `with_new` returned.
            looked: what was looked at for each trial that is new.
            read: evaluations that had to be read.
        """
        if self._folder is None or read < WORTH:
            return
        rows = [{"trial": trial, "path": path.removeprefix(self._prefix), "inode": inode, "size": size,
                 "changed": changed} for trial, seen in looked.items()
                for path, (inode, size, changed) in seen.items()]
        every = self.with_new({"looked": frame_of(rows, LOOKED)}, frames["trials"]["trial"])
        with suppress(ImportError, OSError, StorageError):
            self._write(self._folder, {**frames, **every})

    def _take(self, folder: Path) -> None:
        stated = files.read_json(folder / MANIFEST)
        if stated["key"] != self._key:
            return
        looked = _read(folder, "looked", stated["files"])
        paths = looked["path"].cat.categories.to_numpy()
        now = np.array([_identity(self._prefix + path) for path in paths], dtype=np.int64)
        same = looked[["inode", "size", "changed"]].to_numpy() == now[looked["path"].cat.codes]
        self._frames = {**{name: _read(folder, name, stated["files"]) for name in FRAMES}, "looked": looked}
        self._trials = frozenset(looked["trial"].cat.categories) - frozenset(looked["trial"][~same.all(axis=1)])

    def _write(self, folder: Path, frames: Mapping[str, pd.DataFrame]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        listed = {}
        for name, frame in frames.items():
            if frame.empty:
                continue  # its categories have no type
            out = io.BytesIO()
            parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False), out, compression="zstd")
            files.replace(folder / f"{name}.parquet", out.getvalue())
            listed[name] = hashlib.sha256(out.getvalue()).hexdigest()
        files.replace(folder / MANIFEST, files.seal(
            {"schema_version": files.SCHEMA_VERSION, "key": self._key, "files": listed}))


def _read(folder: Path, name: str, listed: Mapping[str, str]) -> pd.DataFrame:
    """Return a frame.

    Raises:
        ValueError: it is not the one that was written with the others.
    """
    if name not in listed:
        return frame_of([], FRAMES[name])
    import pyarrow as pa
    from pyarrow import parquet

    data = (folder / f"{name}.parquet").read_bytes()
    if hashlib.sha256(data).hexdigest() != listed[name]:
        raise ValueError(f"{folder / name}.parquet is damaged, or of another moment")
    frame: pd.DataFrame = parquet.ParquetFile(pa.BufferReader(data)).read().to_pandas()  # half of `read_table`'s time
    return frame


def _joined(
    kept: pd.DataFrame, stay: Mapping[str, int], new: pd.DataFrame, places: Mapping[str, int]
) -> pd.DataFrame:
    """Return kept rows of the trials that stay and the new ones, in the order of `places`.

    Categories are those that occur, in alphabetical order.
    """
    ours = _places(kept, stay)
    if not (ours >= 0).any():
        return new
    if new.empty and (ours >= 0).all():
        return kept
    place = np.concatenate([ours, _places(new, places)])
    order = np.argsort(place, kind="stable")[np.count_nonzero(place < 0) :]
    return pd.DataFrame({name: _column([part[name] for part in (kept, new) if len(part)], order)
                         for name in kept.columns}, copy=False)


def _places(frame: pd.DataFrame, places: Mapping[str, int]) -> Ints:
    """Return where each row's trial stands; -1: it is not in `places`."""
    trial = frame["trial"].astype("category").cat
    return np.array([places.get(name, -1) for name in trial.categories], dtype=np.int64)[trial.codes]


def _column(parts: list[Any], order: Ints) -> Any:
    """Return these rows of one column of several frames."""
    if isinstance(parts[0].dtype, np.dtype):  # a million numbers: a third of the time of what is below
        return pd.Series(np.concatenate([part.to_numpy() for part in parts])[order], copy=False)
    if parts[0].dtype != "category":
        return pd.concat(parts, ignore_index=True).take(order).reset_index(drop=True)
    joined = pd.api.types.union_categoricals(list(parts), sort_categories=True).take(order)
    unused = np.ones(len(joined.categories), dtype=bool)
    unused[joined.codes] = False
    return pd.Series(joined.remove_unused_categories() if unused.any() else joined)
