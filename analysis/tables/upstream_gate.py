"""Was the upstream learned? One row per pre-pre-training run: its verdict, and the losses that it rests on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.schema import NATS, Column, frame_of
from analysis.study import Study
from analysis.table import Table

GUESSES = ("uniform_loss", "unigram_loss", "copy_loss", "ngram_loss", "context_loss")
_GIVEN = ("margin", "margin_se", "loss", *GUESSES, "oracle_loss", "sequences")
COLUMNS = (
    Column("arm", "str", "", "what was pre-pre-trained on"),
    Column("seed", "int64", "", "seed"),
    Column("verdict", "str", "", "learned: the margin minus two standard errors is above what the task asks for (0.05 "
                                 "by default); not learned: the margin plus two is not; else inconclusive. A null of "
                                 "an upstream that was not learned says nothing about transfer"),
    Column("margin", "float64", NATS, "how far the loss lies below the best guess"),
    Column("margin_se", "float64", NATS, "its standard error, clustered by sequence"),
    Column("best_guess", "str", "", "the guess that the margin is over: the one with the lowest held-out loss"),
    Column("share", "float64", "", "of the way from the best guess to the oracle that was gone; empty without one"),
    Column("loss", "float64", NATS, "held-out upstream loss"),
    Column("uniform_loss", "float64", NATS, "of every token alike"),
    Column("unigram_loss", "float64", NATS, "of the training stream's law of single tokens"),
    Column("copy_loss", "float64", NATS, "of copying the last frame, mixed with unigram; empty without frames"),
    Column("ngram_loss", "float64", NATS, "of an n-gram model of the training stream"),
    Column("context_loss", "float64", NATS, "of an n-gram model of the sequence's own past"),
    Column("oracle_loss", "float64", NATS, "expected, of who knows each sequence's rule; empty where none is exact"),
    Column("sequences", "int64", "", "held-out sequences"),
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of(_rows(study), COLUMNS)


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    for (arm, seed), scores in study.gates.items():
        values = {name: scores.get(name, math.nan) for name in _GIVEN}
        guesses = {name: scores[name] for name in GUESSES if name in scores}
        judged = values["loss"] + values["margin"]
        best = min(guesses, key=lambda name: abs(guesses[name] - judged), default="")  # the one the margin is over
        gap = judged - values["oracle_loss"]
        yield {
            "arm": arm, "seed": seed, "verdict": str(study.verdicts.get(arm, {}).get(seed, "")), **values,
            "best_guess": best.removesuffix("_loss"), "share": values["margin"] / gap if gap > 0 else math.nan,
            "sequences": int(scores.get("sequences", 0)),
        }


PLUGIN = Table(title="Upstream gate", columns=COLUMNS, build=_build, empty="No upstream gate is measured yet.")
