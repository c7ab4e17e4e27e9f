"""Downstream tasks: every rung of every level against chance, a unigram model, the untrained twin, and scratch."""

from __future__ import annotations

import pandas as pd

from analysis.best import resolved_best
from analysis.downstream import NO_SIGNAL, Score, downstream
from analysis.schema import Column, frame_of
from analysis.study import Study
from analysis.table import Table

SANDBOX = Column("sandbox", "str", "", "what the programs that models wrote ran in (rungs exact and pass@k of such "
                 "tasks); unsafe: in none, by --unsafe-exec; none: none holds, so they were not run")
"""Column that tables of downstream scores share."""

COLUMNS = (
    Column("domain", "str", "", "domain that the model was trained on"),
    Column("arm", "str", "", "what is compared"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("task", "str", "", "downstream task"),
    Column("level", "str", "", "difficulty of the items; all: every item"),
    Column("rung", "str", "", "what is measured of an item (the ladder)"),
    Column("unit", "str", "", "of all values of the row"),
    Column("better", "str", "", "higher or lower"),
    Column("seeds", "int64", "", "seeds with a score"),
    Column("mean", "float64", "", "mean over seeds"),
    Column("low", "float64", "", "lower end of its 95 % interval; exact at 0 or all right"),
    Column("high", "float64", "", "upper end"),
    Column("chance", "float64", "", "what every token or choice alike gets"),
    Column("corrected", "float64", "", "mean corrected for guessing: (mean - g) / (1 - g), g = 1 - (1 - 1/m)^k for k "
                                       "tries among the m choices; 0: no better; empty where there are no choices, or "
                                       "guessing gets 99 %"),
    Column("unigram", "float64", "", "what the tokens' shares in the training text get"),
    Column("twin", "float64", "", "mean of the untrained twins"),
    Column("beats", "str", "", f"which of these the arm beats; {NO_SIGNAL}: none, so it is not compared"),
    Column("difference", "float64", "", "arm minus scratch, on the same items and seeds"),
    Column("difference_low", "float64", "", "lower end of its 95 % interval"),
    Column("difference_high", "float64", "", "upper end"),
    Column("detectable", "float64", "", "difference that these items and seeds find with 80 % power (MDE)"),
    Column("over", "str", "", "what the intervals speak of: other items and seeds, or other seeds on these items; and "
                              "what there is too little of"),
    Column("clean", "float64", "", "mean without the items of which a training text holds a 13-gram; items of "
                                   "fewer than 13 words count as clean, though nothing can be told of them (how many: "
                                   "score too_short_to_tell of the stage items)"),
    Column("items", "int64", "", "items of the task"),
    Column("not_evaluable", "int64", "", "seeds without a value: logits not finite, prompts too long, or no sandbox"),
    SANDBOX,
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of((row(study, score) for score in downstream(study)), COLUMNS)


def row(study: Study, score: Score) -> dict[str, object]:
    """Return what the columns say of a score."""
    return {
        "domain": score.domain, "arm": score.arm, "learned": study.learned(score.arm), "task": score.task,
        "level": score.level, "rung": score.name, "unit": score.rung.unit,
        "better": "higher" if score.rung.higher_is_better else "lower",
        "seeds": score.value.n, "mean": score.value.mean, "low": score.value.low, "high": score.value.high,
        **score.references, "corrected": score.corrected, "beats": score.beats, "difference": score.difference.mean,
        "difference_low": score.difference.low, "difference_high": score.difference.high,
        "detectable": score.difference.detectable, "over": score.value.over, "clean": score.clean, "items": score.items,
        "not_evaluable": score.not_evaluable, "sandbox": score.sandbox,
    }


PLUGIN = Table(
    title="Downstream", columns=COLUMNS, build=_build,
    best=resolved_best("difference", "difference_low", "difference_high", ("domain", "task", "level", "rung")),
    empty="This sweep asks for no downstream tasks (`downstream.tasks`), or none is done.")
