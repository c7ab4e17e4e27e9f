"""Speed-up as a function of the target loss: one number at L* mostly reads the learning-rate tail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.convergence import Floats, speedup_over_targets, targets_between
from analysis.schema import NATS, Column, frame_of
from analysis.study import Study, once
from analysis.table import Table

TARGETS = 25
COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "what is compared"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("target_loss", "float64", NATS, "loss that both runs reach"),
    Column("seeds", "int64", "", "seeds"),
    Column("speedup", "float64", "", "baseline's tokens over the arm's tokens to reach it, geometric mean over seeds; "
                                     "only targets that every seed brackets (descriptive)"),
)


@once
def ratios(study: Study, domain: str, arm: str) -> tuple[Floats, Floats, int]:
    """Return target losses, the geometric mean of the speed-up there (targets not bracketed left out), and seeds."""
    known = [row["trial"] for row in study.known(domain, arm)]
    pairs = [(study.curves[study.trials[t]["baseline"]], study.curves[t]) for t in known]
    if not pairs:
        return np.empty(0), np.empty(0), 0
    targets = targets_between([curve for pair in pairs for curve in pair], TARGETS)
    if len(targets) < 2:  # no loss lies between the first and the lowest of every curve
        return np.empty(0), np.empty(0), len(pairs)
    logs = np.log([speedup_over_targets(baseline, curve, targets) for baseline, curve in pairs]).mean(axis=0)
    kept = np.isfinite(logs)
    return targets[kept], np.exp(logs[kept]), len(pairs)


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    for domain in study.records.domains:
        for arm in study.treated(domain):
            targets, speedups, seeds = ratios(study, domain, arm)
            for target, speedup in zip(targets, speedups, strict=True):
                yield {"domain": domain, "arm": arm, "learned": study.learned(arm), "target_loss": target,
                       "seeds": seeds, "speedup": speedup}


def _build(study: Study) -> pd.DataFrame:
    return frame_of(_rows(study), COLUMNS)


PLUGIN = Table(
    title="Speed-up over the target loss", columns=COLUMNS, build=_build,
    empty="No pair of runs brackets a common target loss yet.",
)
