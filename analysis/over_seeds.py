"""Measures of single seeds put together: one rule for the tables, the JSON answer and the terminal. Pure.

Nothing here is inference (`inversion.py`): speed-ups by crossing are descriptive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RATIOS = ("speedup", "charged_speedup", "flop_charged_speedup", "speedup_at_end", "charged_speedup_at_end")
SHARES = ("token_saving", "mrs", "token_saving_at_end", "mrs_at_end")


def over_seeds(measured: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the geometric means of `RATIOS`, the means of `SHARES`, and `speedup_bound`, over seeds.

    NaN where a seed lacks the value: a mean over the others would be biased (without its censored seeds a speed-up of
    1.00 reads 1.22). Instead, the mean speed-up of an arm with censored seeds is at most `speedup_bound`, the geometric
    mean of each seed's bound where it is censored and of its speed-up elsewhere. There is none where another seed's
    speed-up is itself only a lower bound (`at_first`).

    Args:
        measured: the fields of `Convergence` of each seed.
    """
    if not measured:
        return dict.fromkeys((*RATIOS, *SHARES, "speedup_bound"), math.nan)
    bounds = [m["speedup_bound"] if m["censored"] else math.nan if m["at_first"] else m["speedup"] for m in measured]
    ratios = [[*(m[n] for n in RATIOS), bound] for m, bound in zip(measured, bounds, strict=True)]
    with np.errstate(over="ignore", divide="ignore"):
        *geometric, bound = np.exp(np.log(ratios).mean(axis=0)).tolist()
    means = np.mean([[m[n] for n in SHARES] for m in measured], axis=0).tolist()
    return {**dict(zip(RATIOS, geometric, strict=True)), **dict(zip(SHARES, means, strict=True)),
            "speedup_bound": bound if any(m["censored"] for m in measured) else math.nan}
