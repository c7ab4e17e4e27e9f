"""L(D) through the annealed ends, and how many times the baseline's data an arm's gain is worth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.inference import scaled, worth
from analysis.scaling import MAX_ALPHA
from analysis.schema import NATS, TOKENS, Column, frame_of
from analysis.study import Study
from analysis.table import Table

COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "what is fitted"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("seeds", "int64", "", "seeds with all their annealed ends"),
    Column("at", "float64", TOKENS, "the last end"),
    Column("alpha", "float64", "", "exponent of L = E + A D^-alpha, one for all seeds"),
    Column("alpha_low", "float64", "", "lower end of its 95 % interval (profile F); empty: open at 0, logarithmic"),
    Column("alpha_high", "float64", "", f"upper end; empty: open at {MAX_ALPHA:g}, the largest that is tried"),
    Column("alpha_note", "str", "", "why alpha has no interval; empty where it has one, though an end may be open"),
    Column("slope", "float64", NATS, "-dL / d ln D at the last end, mean over seeds: nats per e-fold of data"),
    Column("floor", "float64", NATS, "E, mean over seeds; a far extrapolation without an interval"),
    Column("residual_sd", "float64", NATS, "standard deviation of a loss about the fit; empty where it has no freedom"),
    Column("data_seeds", "int64", "", "seeds of the arm and its baseline that the next columns use; 0: a baseline"),
    Column("data", "float64", "", "times the baseline's tokens at which its fit reaches the arm's loss at T_b"),
    Column("data_low", "float64", "", "lower end of its 95 % interval (Fieller, over alpha's interval)"),
    Column("data_high", "float64", "", "upper end; an empty end is open or not defined, see the note"),
    Column("data_note", "str", "", "why an end is open, or why there is no interval"),
)


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    for domain in study.records.domains:
        for s in scaled(study, domain):
            ratio, low, high = worth(s.data)
            yield {
                "domain": domain, "arm": s.arm, "learned": study.learned(s.arm), "seeds": len(s.law.levels),
                "at": s.law.at, "alpha": s.law.alpha, "alpha_low": s.law.alpha_low, "alpha_high": s.law.alpha_high,
                "alpha_note": s.law.note, "slope": float(s.law.slopes.mean()), "floor": s.law.floor,
                "residual_sd": s.law.sd, "data_seeds": s.data.n if s.data is not None else 0, "data": ratio,
                "data_low": low, "data_high": high, "data_note": s.data.note if s.data is not None else "",
            }


def _build(study: Study) -> pd.DataFrame:
    return frame_of(_rows(study), COLUMNS)


PLUGIN = Table(
    title="Loss over data", columns=COLUMNS, build=_build,
    empty="A fit needs at least three annealed ends of each seed (pretrain.ends).",
)
