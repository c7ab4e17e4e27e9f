"""Which band is best on which domain, with intervals that pay for the choice (max-t, pooled variance)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.schema import NATS, Column, frame_of
from analysis.simultaneous import Family, Split, split_selection
from analysis.study import Study
from analysis.table import Table

COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "a band, with its upstream and budget"),
    Column("complexity", "str", "%", "the band as written"),
    Column("note", "str", "", "the upstream's own note, for instance the raw band"),
    Column("over", "str", "", "baseline of the family"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("seeds", "int64", "", "seeds that these bands and the baseline share; 0: too few of its own, left out"),
    Column("gain_nats", "float64", NATS, "mean gain over the baseline on those seeds"),
    Column("low", "float64", NATS, "lower end of the simultaneous 95 % interval over the domain's bands"),
    Column("high", "float64", NATS, "upper end"),
    Column("detectable_nats", "float64", NATS, "gain of one band that these intervals find with 80 % power (MDE; "
                                               "noncentral t)"),
    Column("critical_t", "float64", "", "critical value of max |t|"),
    Column("df", "int64", "", "degrees of freedom of the pooled variance"),
    Column("largest_mean", "bool", "", "the largest mean gain of the domain's bands; its lead says whether it is "
                                       "known to be the best"),
    Column("lead_nats", "float64", NATS, "of the best band: its lead over the second best"),
    Column("lead_low", "float64", NATS, "lower end of the lead's 95 % interval over all pairs (Tukey)"),
    Column("lead_high", "float64", NATS, "upper end"),
    Column("split_nats", "float64", NATS, "from six seeds, of the band that every other seed chooses: its mean gain on "
                                          "the other seeds; empty of the other bands"),
    Column("split_low", "float64", NATS, "lower end of its 95 % paired-t interval, which the choice does not bias"),
    Column("split_high", "float64", NATS, "upper end"),
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of(_rows(study), COLUMNS)


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    for domain in study.records.domains:
        for over, arms in study.bands(domain).items():
            made, kept, seeds = study.family(domain, arms, over)
            split = split_selection(*study.table(domain, kept, over, seeds)) if kept and seeds else None
            for arm in arms:
                position = kept.index(arm) if made is not None and arm in kept else -1
                shared = len(seeds) if position >= 0 else 0
                yield _row(study, domain, arm, over) | {"seeds": shared} | _values(made, position) | _split(
                    split, position)


def _row(study: Study, domain: str, arm: str, over: str) -> dict[str, Any]:
    first = study.cells[domain, arm][0]
    return {"domain": domain, "arm": arm, "over": over, "learned": study.learned(arm),
            "complexity": first["complexity"], "note": first["note"]}


def _values(made: Family | None, position: int) -> dict[str, Any]:
    if made is None or position < 0:
        names = ("gain_nats", "low", "high", "detectable_nats", "critical_t", "lead_nats", "lead_low", "lead_high")
        return {**dict.fromkeys(names, math.nan), "df": 0, "largest_mean": False}
    interval, best = made.intervals[position], position == made.best and len(made.intervals) > 1
    lead = made.best_over_next
    return {
        "gain_nats": interval.mean, "low": interval.low, "high": interval.high,
        "detectable_nats": made.detectable, "critical_t": made.critical,
        "df": made.df, "largest_mean": best, "lead_nats": lead.mean if best else math.nan,
        "lead_low": lead.low if best else math.nan, "lead_high": lead.high if best else math.nan,
    }


def _split(made: Split | None, position: int) -> dict[str, Any]:
    found = made.interval if made is not None and made.chosen == position else None
    return {"split_nats": found.mean if found else math.nan, "split_low": found.low if found else math.nan,
            "split_high": found.high if found else math.nan}


def _best(frame: pd.DataFrame) -> list[tuple[int, str]]:
    """The largest gain of a domain, where its lead over the second best is resolved."""
    return [(i, "gain_nats") for i, low in enumerate(frame["lead_low"]) if low > 0]


PLUGIN = Table(
    title="Complexity by domain", columns=COLUMNS, build=_build, empty="No arm of this sweep has a complexity band.",
    best=_best,
)
