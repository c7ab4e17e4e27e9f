"""What a gain over the baseline is worth as evidence: each arm, each test. Pure, on a study."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.equivalence import Equivalence, equivalence, margin_of
from analysis.scaling import EquivalentData, PowerLaw, equivalent_data, fit
from analysis.statistics import Interval, sign_flip_p, smallest_p
from analysis.study import Study, once


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One arm in one domain."""

    domain: str
    arm: str
    gain: Interval
    """Over its baseline at T_b, nats."""
    p: float
    """Exact sign-flip p, two-sided."""
    least_p: float
    """The smallest that this number of seeds can give."""
    small: Equivalence
    """Whether the gain is smaller than 1 % of perplexity, either way."""


@once
def evidence(study: Study, domain: str) -> list[Evidence]:
    """Return the evidence on every arm of a domain, in the plan's order.

    The power of "smaller than 1 %" uses the larger of the arm's own standard deviation and the domain's pooled one: an
    arm that looks calm by luck does not make a null a finding.
    """
    pooled, found = study.domain_sd(domain), []
    for arm in study.treated(domain):
        gains = list(study.gains(domain, arm).values())
        effect = study.effect(domain, arm)
        found.append(Evidence(
            domain=domain, arm=arm, gain=effect, p=sign_flip_p(gains), least_p=smallest_p(len(gains)),
            small=equivalence(gains, margin_of(), pooled),
        ))
    return found


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """L(D) of one arm's annealed ends, and what its gain is worth in tokens of its baseline."""

    domain: str
    arm: str
    law: PowerLaw
    data: EquivalentData | None
    """None: of a baseline, or where the two were planned for other tokens."""


@once
def scaled(study: Study, domain: str) -> list[Scaled]:
    """Return the fits of a domain's arms that have three annealed ends, baselines included."""
    found = []
    for arm in study.records.arms:
        ends = study.annealed(domain, arm)
        law = fit(list(ends.values()))
        if law is not None:
            found.append(Scaled(domain=domain, arm=arm, law=law, data=_data(study, domain, arm)))
    return found


def _data(study: Study, domain: str, arm: str) -> EquivalentData | None:
    gains = study.gains(domain, arm)
    cell = study.cells[domain, arm][0]
    baseline = study.trials.get(cell["baseline"], cell)
    if cell["is_baseline"] or not gains or baseline["pretrain_tokens"] != cell["pretrain_tokens"]:
        return None
    ends = study.annealed(domain, str(baseline["arm"]))
    seeds = [seed for seed in gains if seed in ends]
    law = fit([ends[seed] for seed in seeds])
    return None if law is None else equivalent_data(law, [gains[seed] for seed in seeds])


def worth(data: EquivalentData | None) -> tuple[float, float, float]:
    """Return ratio, low and high; NaN where there is none."""
    return (data.ratio, data.low, data.high) if data is not None else (math.nan, math.nan, math.nan)
