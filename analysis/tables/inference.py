"""Each gain over the baseline as evidence: interval, exact p, what could have been found, whether it is small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.best import resolved_best
from analysis.inference import evidence
from analysis.schema import NATS, Column, detectable, frame_of
from analysis.study import Study
from analysis.table import Table

COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "what is compared"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("seeds", "int64", "", "seeds scored together with their baseline"),
    Column("gain_nats", "float64", NATS, "mean gain over scratch at T_b"),
    Column("low", "float64", NATS, "lower end of its 95 % paired-t interval; empty below three seeds"),
    Column("high", "float64", NATS, "upper end"),
    Column("p", "float64", "", "exact two-sided p of the sign-flip test, which assumes no normality"),
    Column("least_p", "float64", "", "the smallest p that so many seeds can give, 2 / 2^seeds: with three 0.25, and "
                                     "0.05 cannot be reached with fewer than six"),
    detectable(),
    Column("margin_nats", "float64", NATS, "1 % of perplexity"),
    Column("small_low", "float64", NATS, "lower end of the 90 % interval, which is two one-sided tests at 5 %"),
    Column("small_high", "float64", NATS, "upper end"),
    Column("small_power", "float64", "", "chance that a true zero is shown to be small at this n and the larger of the "
                                         "arm's and the domain's sd"),
    Column("small", "str", "", "smaller (than 1 %, with 95 % confidence and power of at least 0.8), larger (the 95 % "
                               "interval lies beyond 1 %), inconclusive, or not tested"),
)


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    for domain in study.records.domains:
        for e in evidence(study, domain):
            yield {
                "domain": domain, "arm": e.arm, "learned": study.learned(e.arm), "seeds": e.gain.n,
                "gain_nats": e.gain.mean, "low": e.gain.low, "high": e.gain.high, "p": e.p, "least_p": e.least_p,
                "detectable_nats": e.gain.detectable, "margin_nats": e.small.margin, "small_low": e.small.low,
                "small_high": e.small.high, "small_power": e.small.power, "small": e.small.verdict,
            }


def _build(study: Study) -> pd.DataFrame:
    return frame_of(_rows(study), COLUMNS)


PLUGIN = Table(title="Gains as evidence", columns=COLUMNS, build=_build,
               best=resolved_best("gain_nats", "low", "high"))
