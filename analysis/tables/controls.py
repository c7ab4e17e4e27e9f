"""Is a gain over scratch a gain from structure? Each arm against its controls, paired by seed."""

from __future__ import annotations

import pandas as pd

from analysis.controls import contrasts
from analysis.schema import NATS, Column, detectable, frame_of
from analysis.study import Study
from analysis.table import Table

COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "what is compared"),
    Column("control", "str", "", "the arm that keeps everything but the structure"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("control_learned", "str", "", "the same of the control"),
    Column("gain_nats", "float64", NATS, "the arm's mean gain over scratch"),
    Column("control_gain_nats", "float64", NATS, "the control's mean gain over scratch"),
    Column("seeds", "int64", "", "seeds scored in both"),
    Column("difference", "float64", NATS, "the arm's mean gain over the control, paired by seed"),
    Column("low", "float64", NATS, "lower end of its 95 % paired-t interval; empty below three seeds"),
    Column("high", "float64", NATS, "upper end"),
    detectable(what="difference"),
    Column("reading", "str", "", "more than the control, less, not resolved, or why nothing can be said"),
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of((
        {"domain": c.domain, "arm": c.arm, "control": c.control, "learned": study.learned(c.arm),
         "control_learned": study.learned(c.control), "gain_nats": c.over_scratch.mean,
         "control_gain_nats": c.control_over_scratch.mean, "seeds": c.difference.n, "difference": c.difference.mean,
         "low": c.difference.low, "high": c.difference.high, "detectable_nats": c.difference.detectable,
         "reading": c.reading}
        for domain in study.records.domains for c in contrasts(study, domain)
    ), COLUMNS)


PLUGIN = Table(
    title="Arms against their controls", columns=COLUMNS, build=_build, empty="This sweep has no control upstream."
)
