"""Every pair of a trial and its baseline, one row each: what the averages are made of."""

from __future__ import annotations

import pandas as pd

from analysis.study import PAIRS, Study
from analysis.table import Table


def _build(study: Study) -> pd.DataFrame:
    return study.pairs


PLUGIN = Table(title="Convergence, seed by seed", columns=PAIRS, build=_build)
