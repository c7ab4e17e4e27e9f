"""Claims written before the first run, judged by one rule. Pure, on a study.

Rule for `> c`: *supported* where the 95 % interval of the gain lies above c, *contradicted* where it lies below,
*inconclusive* where it holds c, *not tested* below three seeds. `< c` is the mirror image. `best_band`, or a name that
means several bands, chooses the band with the largest mean gain, so its interval is the simultaneous one over all these
bands of the domain (max-t).

Rule for "the best band on A is lower than on B": each domain has a set of bands that may be its best one (those that no
other is resolved to beat; Tukey, 97.5 % each, so both sets hold theirs with 95 %). *Supported* where every band of A's
set lies below every band of B's, *contradicted* where none lies below any, else *inconclusive*.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.chosen import unresolved
from analysis.simultaneous import plausible_best
from analysis.statistics import CONFIDENCE, FEW_SEEDS, MIN_SEEDS, Interval
from analysis.study import Study, once
from analysis.wording import interval as shown
from analysis.wording import listed
from sweeps.language.claim import BASELINE, BEST, named

_RULE = re.compile(r"\s*([<>])=?\s*(-?[0-9.]+(?:e-?[0-9]+)?)\s*\Z")
_INTERVAL = "95 % paired-t interval over seeds"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One claim, judged."""

    claim: str
    domain: str
    arm: str
    """As written; the chosen arm is in `chosen`."""
    over: str
    statement: str
    """For instance `> 0`."""
    verdict: str
    """supported, contradicted, inconclusive or not tested."""
    chosen: str = ""
    """The arm that was judged."""
    interval: Interval
    rule: str
    """What the interval is, or why the claim was not tested."""
    detectable: float = math.nan
    """Gain that this interval finds with 80 % power, nats (MDE)."""
    says: str = ""
    """The sentence that it was written as; empty: it was not."""

    @property
    def text(self) -> str:
        """The claim as a reader is told it."""
        about = f"{self.arm} over {self.over} in {self.domain}, "
        return self.says or about + (f"gain {self.statement}" if self.statement[:1] in ("<", ">") else self.statement)


@once
def judge(study: Study) -> list[Verdict]:
    """Return the verdict on every claim of the plan, in the plan's order."""
    return [_judge(study, name, fields) for name, fields in study.records.plan.claims.items()]


def contrast(study: Study, fields: Mapping[str, Any]) -> tuple[list[str], str, str]:
    """Return the arms that a claim about a gain means, the arm that they are compared with, and why there is none.

    Several arms: bands of which the best is meant. The reference is empty where it is each arm's own baseline.
    """
    domain, arm, over = _names(fields)
    if domain not in study.records.domains:
        return [], "", f"the sweep has no domain {domain!r}"
    bands = study.bands(domain)
    arms = [a for kept in bands.values() for a in kept] if arm == BEST else _named(study, domain, arm)
    if len(arms) > 1:
        several = [base for base, kept in bands.items() if set(arms) & set(kept)]
        if len(several) != 1 or not set(arms) <= set(bands[several[0]]):
            return [], "", "bands have several baselines; name an arm" if arm == BEST else _nameless(arm, domain)
        reference = several[0] if over == BASELINE else _one(study, domain, over, "")
    else:
        reference = "" if over == BASELINE or not arms else _one(study, domain, over, arms[0])
    if not arms:
        return [], "", "no arm has a complexity band" if arm == BEST else _nameless(arm, domain)
    if not reference and (over != BASELINE or len(arms) > 1):
        return [], "", _nameless(over, domain)
    return arms, reference, ""


def _judge(study: Study, name: str, fields: Mapping[str, Any]) -> Verdict:
    if fields.get("band"):
        return _judge_bands(study, name, fields)
    domain, arm, over = _names(fields)
    statement = str(fields.get("gain_nats", ""))
    chosen, interval, detectable, rule = _measured(study, domain, fields)
    match = _RULE.match(statement)
    if match is None:
        rule = f"`{statement}` is no statement about a gain; write for instance `> 0`"
    return Verdict(claim=name, domain=domain, arm=arm, over=over, statement=statement, chosen=chosen, interval=interval,
                   verdict=_verdict(interval, match), rule=rule, detectable=detectable,
                   says=str(fields.get("says", "")))


def _names(fields: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(fields.get("domain", "")), str(fields.get("arm", "")), str(fields.get("over", BASELINE))


def _nameless(written: str, domain: str) -> str:
    return f"the sweep has no single arm {written!r} in {domain}"


def _verdict(interval: Interval, match: re.Match[str] | None) -> str:
    if match is None or interval.note or not math.isfinite(interval.low):
        return "not tested"
    limit = float(match[2])
    above, below = interval.low > limit, interval.high < limit
    if match[1] == "<":
        above, below = below, above
    return "supported" if above else "contradicted" if below else "inconclusive"


def _nothing(reason: str) -> tuple[str, Interval, float, str]:
    return "", Interval(mean=math.nan, n=0, note=reason), math.nan, reason


def _measured(study: Study, domain: str, fields: Mapping[str, Any]) -> tuple[str, Interval, float, str]:
    """Return the arm that was judged, the interval of its gain, what gain that finds, and what that interval is."""
    arms, reference, reason = contrast(study, fields)
    if reason:
        return _nothing(reason)
    if len(arms) == 1 and fields.get("arm") != BEST:
        interval = study.effect(domain, arms[0], reference)
        doubt = _doubt(study, domain, reference or study.baseline_of(domain, arms[0]))
        return arms[0], interval, interval.detectable, (interval.note or _INTERVAL) + doubt
    reference = reference or study.baseline_of(domain, arms[0])
    made, kept, _ = study.family(domain, arms, reference)
    if made is None:
        return _nothing("no seed is scored in the reference and in a band")
    interval = made.intervals[made.best]
    text = f"simultaneous 95 % max-t interval over {len(kept)} of {len(arms)} bands, variance pooled"
    return kept[made.best], interval, made.detectable, (interval.note or text) + _doubt(study, domain, reference)


def _doubt(study: Study, domain: str, reference: str) -> str:
    """Return what a reader must know of an arm that others are compared with: its upstream was not learned, or another
    of its searched values may be better."""
    doubts = [f", over {study.named(reference)}"] * study.doubtful(reference)
    if found := unresolved(study, domain, reference):
        doubts.append(f", over values of {reference} that its search did not resolve from the next ({shown(found[1])})")
    return "".join(doubts)


def _named(study: Study, domain: str, written: str) -> list[str]:
    """Return the domain's arms that a name means."""
    requested = {t.id: t.requested_upstream_tokens for t in study.records.plan.trials}
    cells = [study.cells[domain, arm][0] for arm in study.records.arms if (domain, arm) in study.cells]
    return named(written, [{**row, "requested_upstream_tokens": requested[row["trial"]]} for row in cells])


def _one(study: Study, domain: str, written: str, like: str) -> str:
    """Return the single arm that a name means (or the one in the band of the arm `like`); empty where there is none."""
    found = _named(study, domain, written)
    if len(found) > 1 and like:
        band = study.cells[domain, like][0]["complexity"]
        found = [arm for arm in found if study.cells[domain, arm][0]["complexity"] == band]
    return found[0] if len(found) == 1 else ""


def _judge_bands(study: Study, name: str, fields: Mapping[str, Any]) -> Verdict:
    domain, than, side = (str(fields.get(key, "")) for key in ("domain", "than", "band"))
    ours, n, reason = _may_be_best(study, domain)
    theirs, m, other = _may_be_best(study, than)
    reason, seeds, verdict = reason or other, min(n, m), "not tested"
    if not reason:
        pairs = [(a, b) if side == "lower" else (b, a) for a in ours for b in theirs]
        below = [_edges(a) < _edges(b) for a, b in pairs]
        verdict = "supported" if all(below) else "inconclusive" if any(below) else "contradicted"
        reason = (f"bands that may be the best (Tukey, 97.5 % each): {listed(sorted(ours, key=_edges))} on {domain}, "
                  f"{listed(sorted(theirs, key=_edges))} on {than}")
        doubts = {study.named(a) for d in (domain, than) for arms in study.bands(d).values() for a in arms
                  if study.doubtful(a)}
        reason += f"; {listed(sorted(doubts))}" * bool(doubts)
    return Verdict(claim=name, domain=domain, arm=BEST, over=f"{BEST} on {than}", statement=f"{side} band",
                   verdict=verdict, interval=Interval(mean=math.nan, n=seeds, note=reason), rule=reason,
                   says=str(fields.get("says", "")))


def _may_be_best(study: Study, domain: str) -> tuple[set[str], int, str]:
    """Return the bands that may be a domain's best, its seeds, and why it cannot be told."""
    families = study.bands(domain)
    if len(families) != 1:
        return set(), 0, f"no arm has a complexity band in {domain}" if not families else "bands have several baselines"
    (baseline, arms), = families.items()
    bands = {arm: str(study.cells[domain, arm][0]["complexity"]) for arm in arms}
    _, kept, seeds = study.family(domain, arms, baseline)
    if len(seeds) < MIN_SEEDS:
        return set(), len(seeds), FEW_SEEDS
    if len(set(bands.values())) < 2 or set(kept) != set(arms):
        return set(), len(seeds), f"not every band of {domain} is scored, or it has only one"
    best = plausible_best(*study.table(domain, kept, baseline, seeds), 1 - (1 - CONFIDENCE) / 2)
    return {bands[kept[k]] for k in best}, len(seeds), ""


def _edges(band: str) -> list[float]:
    """Return a band's edges, by which bands are ordered."""
    return [float(number) for number in re.findall(r"[0-9]+(?:\.[0-9]+)?", band)]
