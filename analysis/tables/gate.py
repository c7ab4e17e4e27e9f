"""Was the upstream learned? Held-out upstream loss against copying the last frame and unigram guessing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.schema import NATS, Column, frame_of
from analysis.study import Study
from analysis.table import Table

_SCORES = ("loss", "unigram_loss", "copy_loss", "margin")
COLUMNS = (
    Column("arm", "str", "", "what is compared"),
    Column("seeds", "int64", "", "seeds whose gate is measured"),
    Column("learned", "int64", "", "seeds that pass; a null of an upstream that was not learned says nothing"),
    Column("loss", "float64", NATS, "held-out upstream loss, mean over seeds"),
    Column("unigram_loss", "float64", NATS, "of guessing by the unigram law"),
    Column("copy_loss", "float64", NATS, "of copying the last frame"),
    Column("margin", "float64", NATS, "how far the loss lies below the better guess"),
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of(_rows(study), COLUMNS)


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    scores = study.records.scores
    gate = scores[scores["role"] == "gate"]
    found: dict[str, dict[str, dict[int, float]]] = {}
    for trial, name, value in zip(gate["trial"], gate["name"], gate["value"], strict=True):
        row, short = study.trials[str(trial)], str(name).removeprefix("upstream_gate.")
        found.setdefault(row["arm"], {}).setdefault(short, {})[int(row["seed"])] = float(value)
    for arm in study.records.arms:
        if arm in found:
            learned = study.learned.get(arm, {})
            means = {s: float(np.mean(list(found[arm].get(s, {0: np.nan}).values()))) for s in _SCORES}
            yield {"arm": arm, "seeds": len(learned), "learned": sum(learned.values()), **means}


PLUGIN = Table(
    title="Upstream gate", columns=COLUMNS, build=_build, empty="No upstream gate is measured yet."
)
