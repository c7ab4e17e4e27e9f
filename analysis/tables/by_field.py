"""What a field does to the gain: each arm over scratch at the same value, and over scratch at its own best value."""

from __future__ import annotations

import pandas as pd

from analysis.best import resolved_best
from analysis.by_field import at_values
from analysis.schema import NATS, Column, detectable, frame_of
from analysis.study import Study
from analysis.table import Table

COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "what is compared, without the field"),
    Column("field", "str", "", "the field, an axis of scratch too"),
    Column("value", "str", "", "its value"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("seeds", "int64", "", "seeds scored in both"),
    Column("gain_nats", "float64", NATS, "mean gain over scratch at the same value"),
    Column("low", "float64", NATS, "lower end of its 95 % paired-t interval; empty below three seeds"),
    Column("high", "float64", NATS, "upper end"),
    detectable(),
    Column("scratch_best", "str", "", "scratch's value of the lowest mean loss, chosen on these seeds"),
    Column("over_best", "float64", NATS, "mean gain over scratch at that value"),
    Column("over_best_low", "float64", NATS, "lower end of its 95 % paired-t interval"),
    Column("over_best_high", "float64", NATS, "upper end"),
    detectable("over_best_detectable"),
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of((
        {"domain": v.domain, "arm": v.group, "field": v.field, "value": v.value, "learned": study.learned(v.arm),
         "seeds": v.gain.n, "gain_nats": v.gain.mean, "low": v.gain.low, "high": v.gain.high,
         "detectable_nats": v.gain.detectable,
         "scratch_best": v.best_value, "over_best": v.over_best.mean, "over_best_low": v.over_best.low,
         "over_best_high": v.over_best.high, "over_best_detectable": v.over_best.detectable}
        for domain in study.records.domains for group in at_values(study, domain).values() for v in group
    ), COLUMNS)


PLUGIN = Table(title="What a field does to the gain", columns=COLUMNS, build=_build,
               best=resolved_best("over_best", "over_best_low", "over_best_high", ("domain", "field")),
               empty="This sweep has no field that scratch has as an axis too.")
