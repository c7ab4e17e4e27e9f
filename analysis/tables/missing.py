"""Everything planned that no number includes yet, and why. Nothing is dropped without a row here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.schema import LEFT_OUT, Column, frame_of
from analysis.study import Study
from analysis.table import Table


def _words(name: str) -> str:
    return name.replace("_", " ")


COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "what is compared"),
    Column("seed", "int64", "", "seed"),
    Column("trial", "str", "", "trial id"),
    Column("what", "str", "", "role of the steps on the trial's path, or `gain`"),
    Column("status", "str", "", "absent, started, diverged, damaged, withheld (its upstream was not learned, and gate: "
                                "require), unscored (no finite loss at its end), or why the pair has no gain"),
    Column("count", "int64", "", "steps, or what was left out of one: " + "; ".join(
        f"{_words(c.name)}: {c.meaning}" for c in LEFT_OUT)),
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
        if status.startswith(("baseline", "ends")) or str(trial) not in found:
            found.setdefault(str(trial), []).append(("gain", str(status), 1))
    scored = {trial for trial, row in study.trials.items() if row["status"] == "scored"}
    scored -= set(unpaired["trial"])
    for trial, row in study.trials.items():
        for what, status, count in found.get(trial, ()):
            yield {"domain": row["domain"], "arm": row["arm"], "seed": row["seed"], "trial": trial, "what": what,
                   "status": status, "count": count, "scored": trial in scored}


def _steps(steps: pd.DataFrame) -> Iterator[tuple[str, str, str, int]]:
    """Yield trial, role, status and number of the steps that are not done, then of what else was left out."""
    wrong = Counter(_values(steps[steps["status"] != "done"], "trial", "role", "status"))
    yield from ((trial, role, status, count) for (trial, role, status), count in wrong.items())
    for column in LEFT_OUT:
        counted = Counter[tuple[str, ...]]()
        left_out = steps[steps[column.name] > 0]
        for *key, count in _values(left_out, "trial", "role", column.name):
            counted[tuple(key)] += int(count)
        yield from ((trial, role, _words(column.name), count) for (trial, role), count in counted.items())


def _values(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[str, ...]]:
    return zip(*(map(str, frame[c].tolist()) for c in columns), strict=True)


PLUGIN = Table(title="Missing", columns=COLUMNS, build=_build, empty="Nothing is missing: every planned step is done.")
