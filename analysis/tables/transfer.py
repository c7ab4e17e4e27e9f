"""What of the body carries the gain: each way of transferring it beside the sweep's first way, paired by seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.best import resolved_best
from analysis.by_field import along
from analysis.schema import NATS, Column, detectable, frame_of
from analysis.study import Study
from analysis.table import Table

SECTION = "transfer."
COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "what is compared, without the field"),
    Column("field", "str", "", "field of the transfer"),
    Column("value", "str", "", "its value (`nothing`: an empty list)"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("seeds", "int64", "", "seeds scored together with their baseline"),
    Column("gain_nats", "float64", NATS, "mean gain over its own baseline at T_b"),
    Column("low", "float64", NATS, "lower end of its 95 % paired-t interval; empty below three seeds"),
    Column("high", "float64", NATS, "upper end"),
    detectable(),
    Column("over", "str", "", "the arm at the field's first value in the plan"),
    Column("change_nats", "float64", NATS, "loss of that arm minus this arm's, paired by seed; positive: better"),
    Column("change_low", "float64", NATS, "lower end of its 95 % paired-t interval"),
    Column("change_high", "float64", NATS, "upper end"),
    detectable("change_detectable", "change"),
    Column("reading", "str", "", "whether this value is better, worse or not resolved from the first"),
)


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    fields = dict.fromkeys(k for values in study.fields.values() for k in values if k.startswith(SECTION))
    for domain in study.records.domains:
        for field in fields:
            for p in along(study, domain, field, stepwise=False):
                yield {
                    "domain": domain, "arm": p.group, "field": field, "value": p.value,
                    "learned": study.learned(p.arm), "seeds": p.gain.n, "gain_nats": p.gain.mean, "low": p.gain.low,
                    "high": p.gain.high, "detectable_nats": p.gain.detectable, "over": p.over,
                    "change_nats": p.change.mean, "change_low": p.change.low, "change_high": p.change.high,
                    "change_detectable": p.change.detectable, "reading": p.reading,
                }


def _build(study: Study) -> pd.DataFrame:
    return frame_of(_rows(study), COLUMNS)


PLUGIN = Table(title="What the transfer carries", columns=COLUMNS, build=_build,
               best=resolved_best("gain_nats", "low", "high", ("domain", "arm", "field")),
               empty="No arm of this sweep has several values of a `transfer` field.")
