"""Scores of the final models beside their untrained twins: what is no different there is no signal."""

from __future__ import annotations

import pandas as pd

from analysis.probes import probes
from analysis.schema import Column, detectable, frame_of
from analysis.study import Study
from analysis.table import Table

COLUMNS = (
    Column("domain", "str", "", "domain that the model was pre-trained on"),
    Column("arm", "str", "", "what is compared"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("score", "str", "", "score, in its task's unit"),
    Column("seeds", "int64", "", "seeds with both"),
    Column("trained", "float64", "", "final model, mean over seeds"),
    Column("untrained", "float64", "", "untrained twin of the same seed, mean over seeds"),
    Column("difference", "float64", "", "trained minus untrained, paired by seed"),
    Column("low", "float64", "", "lower end of its 95 % paired-t interval; empty below three seeds"),
    Column("high", "float64", "", "upper end"),
    detectable("detectable", "difference", unit=""),
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of((
        {"domain": p.domain, "arm": p.arm, "learned": study.learned(p.arm), "score": p.score, "seeds": p.difference.n,
         "trained": p.trained, "untrained": p.untrained, "difference": p.difference.mean,
         "low": p.difference.low, "high": p.difference.high, "detectable": p.difference.detectable}
        for p in probes(study)
    ), COLUMNS)


PLUGIN = Table(
    title="Final models beside untrained twins", columns=COLUMNS, build=_build, empty="No final model is measured yet."
)
