"""What fine-tuning on a task's training items did to its scores: before, after, and the difference."""

from __future__ import annotations

import pandas as pd

from analysis.downstream import tuned
from analysis.schema import Column, frame_of
from analysis.study import Study
from analysis.table import Table
from analysis.tables.downstream import SANDBOX

COLUMNS = (
    Column("domain", "str", "", "domain that the model was trained on"),
    Column("arm", "str", "", "what is compared"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("task", "str", "", "downstream task"),
    Column("level", "str", "", "difficulty of the items; all: every item"),
    Column("rung", "str", "", "what is measured of an item (the ladder)"),
    Column("unit", "str", "", "of all values of the row"),
    Column("better", "str", "", "higher or lower"),
    Column("seeds", "int64", "", "seeds with both scores"),
    Column("before", "float64", "", "mean of the model before its fine-tuning"),
    Column("after", "float64", "", "mean of the fine-tuned model: what the table downstream shows"),
    Column("difference", "float64", "", "after minus before, on the same items and seeds"),
    Column("low", "float64", "", "lower end of its 95 % interval"),
    Column("high", "float64", "", "upper end"),
    Column("detectable", "float64", "", "difference that these items and seeds find with 80 % power (MDE)"),
    Column("over", "str", "", "what the interval speaks of, and what there is too little of"),
    SANDBOX,
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of(({
        "domain": score.domain, "arm": score.arm, "learned": study.learned(score.arm), "task": score.task,
        "level": score.level, "rung": score.name, "unit": score.rung.unit,
        "better": "higher" if score.rung.higher_is_better else "lower",
        "seeds": score.difference.n, "before": score.before, "after": score.after,
        "difference": score.difference.mean, "low": score.difference.low, "high": score.difference.high,
        "detectable": score.difference.detectable, "over": score.difference.over, "sandbox": score.sandbox,
    } for score in tuned(study)), COLUMNS)


PLUGIN = Table(
    title="Fine-tuning", columns=COLUMNS, build=_build,
    empty="This sweep fine-tunes for no task (`downstream.finetune`), or none is done.")
