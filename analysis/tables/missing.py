"""Everything planned that no number includes yet, and why. Nothing is dropped without a row here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.schema import Column, frame_of
from analysis.study import Study
from analysis.table import Table

COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "what is compared"),
    Column("seed", "int64", "", "seed"),
    Column("trial", "str", "", "trial id"),
    Column("what", "str", "", "role of the steps on the trial's path, or `gain`"),
    Column("status", "str", "", "absent, started, diverged, damaged, withheld (its upstream was not learned, and gate: "
                                "require), unscored (no finite loss at its end), or why the pair has no gain"),
    Column("count", "int64", "", "steps, or damaged lines of metrics"),
    Column("scored", "bool", "", "the trial's gain is in the tables all the same"),
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of(_rows(study), COLUMNS)


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    found: dict[str, list[tuple[str, str, int]]] = {}
    for trial, role, status, count in _steps(study.records.steps):
        found.setdefault(trial, []).append((role, status, count))
    unpaired = study.pairs[study.pairs["status"] != "scored"]
    for trial, status in zip(unpaired["trial"], unpaired["status"], strict=True):
        if status.startswith(("baseline", "ends")):
            found.setdefault(str(trial), []).append(("gain", str(status), 1))
    scored = {trial for trial, row in study.trials.items() if row["status"] == "scored"}
    scored -= set(unpaired["trial"])
    for trial, row in study.trials.items():
        for what, status, count in found.get(trial, ()):
            yield {"domain": row["domain"], "arm": row["arm"], "seed": row["seed"], "trial": trial, "what": what,
                   "status": status, "count": count, "scored": trial in scored}


def _steps(steps: pd.DataFrame) -> Iterator[tuple[str, str, str, int]]:
    """Yield trial, role, status and number of the steps that are not done, then of damaged lines."""
    wrong = Counter(_values(steps[steps["status"] != "done"], "trial", "role", "status"))
    yield from ((trial, role, status, count) for (trial, role, status), count in wrong.items())
    damaged = steps[steps["damaged_lines"] > 0].drop_duplicates(["trial", "role"])
    for trial, role, lines in _values(damaged, "trial", "role", "damaged_lines"):
        yield trial, role, "damaged lines", int(lines)


def _values(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[str, ...]]:
    return zip(*(frame[c].astype(str) for c in columns), strict=True)


PLUGIN = Table(title="Missing", columns=COLUMNS, build=_build, empty="Nothing is missing: every planned step is done.")
