"""The upstream gate's losses by frame and by position, in groups that double: what is learned from a longer past."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.schema import NATS, Column, frame_of
from analysis.study import Study
from analysis.table import Table

LOSSES = ("loss", "copy_loss", "ngram_loss", "context_loss", "oracle_loss")
COLUMNS = (
    Column("arm", "str", "", "what was pre-pre-trained on"),
    Column("seed", "int64", "", "seed"),
    Column("axis", "str", "", "frame or position (in tokens)"),
    Column("first", "int64", "", "first frame or position of the group, from 0; the group ends before twice that"),
    Column("loss", "float64", NATS, "held-out upstream loss there"),
    Column("copy_loss", "float64", NATS, "of copying the last frame, mixed with unigram"),
    Column("ngram_loss", "float64", NATS, "of an n-gram model of the training stream"),
    Column("context_loss", "float64", NATS, "of an n-gram model of the sequence's own past"),
    Column("oracle_loss", "float64", NATS, "expected, of who knows each sequence's rule"),
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of(_rows(study), COLUMNS)


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    for (arm, seed), scores in study.gates.items():
        places: dict[tuple[str, int], dict[str, float]] = {}
        for name, value in scores.items():
            axis, _, rest = name.partition(".")
            first, _, loss = rest.partition(".")
            if loss in LOSSES:
                places.setdefault((axis, int(first)), {})[loss] = value
        for (axis, first_place), losses in sorted(places.items()):
            yield {"arm": arm, "seed": seed, "axis": axis, "first": first_place,
                   **{name: losses.get(name, math.nan) for name in LOSSES}}


PLUGIN = Table(
    title="Upstream gate by frame and position", columns=COLUMNS, build=_build,
    empty="No upstream gate is measured yet.",
)
