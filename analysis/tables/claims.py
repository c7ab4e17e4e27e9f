"""Claims declared in the sweep file before the first run, and what the records say about them."""

from __future__ import annotations

import pandas as pd

from analysis.claims import judge
from analysis.schema import NATS, Column, detectable, frame_of
from analysis.study import Study
from analysis.table import Table

COLUMNS = (
    Column("claim", "str", "", "its name in the sweep file"),
    Column("says", "str", "", "the sentence that it was written as; empty where it was written as a contrast"),
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "arm as written"),
    Column("over", "str", "", "what it is compared with, as written"),
    Column("gain_nats", "str", NATS, "what was claimed of the gain; or that the best band is lower or higher"),
    Column("verdict", "str", "", "supported, contradicted, inconclusive or not tested"),
    Column("chosen", "str", "", "the arm that was judged"),
    Column("learned", "str", "", "of that arm: seeds whose upstream gate says learned, of those measured"),
    Column("estimate", "float64", NATS, "mean gain"),
    Column("low", "float64", NATS, "lower end of the interval"),
    Column("high", "float64", NATS, "upper end"),
    detectable(),
    Column("seeds", "int64", "", "seeds"),
    Column("rule", "str", "", "what the interval is, or why the claim was not tested; supported: the whole interval is "
                              "on the claimed side, contradicted: on the other side, else inconclusive"),
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of((
        {"claim": v.claim, "says": v.says, "domain": v.domain, "arm": v.arm, "over": v.over, "gain_nats": v.statement,
         "verdict": v.verdict, "chosen": v.chosen, "learned": study.learned(v.chosen),
         "estimate": v.interval.mean, "low": v.interval.low, "high": v.interval.high,
         "detectable_nats": v.detectable, "seeds": v.interval.n, "rule": v.rule}
        for v in judge(study)
    ), COLUMNS)


PLUGIN = Table(title="Claims", columns=COLUMNS, build=_build, empty="The sweep file declares no claim.")
