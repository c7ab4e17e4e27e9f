"""Claims written before the first run, judged by one rule. Pure, on a study.

Rule for `> c`: *supported* where the 95 % interval of the gain lies above c, *contradicted* where it lies below,
*inconclusive* where it holds c, *not tested* below three seeds. `< c` is the mirror image. `best_band` chooses the band
with the largest mean gain, so its interval is the simultaneous one over all bands of the domain (max-t).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.statistics import Interval
from analysis.study import Study

BEST = "best_band"
_RULE = re.compile(r"\s*([<>])=?\s*(-?[0-9.]+(?:e-?[0-9]+)?)\s*\Z")


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


def judge(study: Study) -> list[Verdict]:
    """Return the verdict on every claim of the plan, in the plan's order."""
    return [_judge(study, name, fields) for name, fields in study.records.plan.claims.items()]


def _judge(study: Study, name: str, fields: Mapping[str, Any]) -> Verdict:
    domain, arm = str(fields.get("domain", "")), str(fields.get("arm", ""))
    over, statement = str(fields.get("over", "baseline")), str(fields.get("gain_nats", ""))
    chosen, interval, rule = _measured(study, domain, arm, over)
    match = _RULE.match(statement)
    if match is None:
        rule = f"`{statement}` is no statement about a gain; write for instance `> 0`"
    verdict = _verdict(interval, match)
    return Verdict(claim=name, domain=domain, arm=arm, over=over, statement=statement, verdict=verdict, chosen=chosen,
                   interval=interval, rule=rule)


def _verdict(interval: Interval, match: re.Match[str] | None) -> str:
    if match is None or interval.note or not math.isfinite(interval.low):
        return "not tested"
    limit = float(match[2])
    above, below = interval.low > limit, interval.high < limit
    if match[1] == "<":
        above, below = below, above
    return "supported" if above else "contradicted" if below else "inconclusive"


def _nothing(reason: str) -> tuple[str, Interval, str]:
    return "", Interval(mean=math.nan, n=0, note=reason), reason


def _measured(study: Study, domain: str, arm: str, over: str) -> tuple[str, Interval, str]:
    """Return the arm that was judged, the interval of its gain and what that interval is."""
    if domain not in study.records.domains:
        return _nothing(f"the sweep has no domain {domain!r}")
    if arm == BEST:
        return _best(study, domain, over)
    ours = _resolve(study, domain, arm, "")
    theirs = "" if over == "baseline" else _resolve(study, domain, over, ours)
    for written, found in ((arm, ours), (over, theirs or over == "baseline")):
        if not found:
            return _nothing(f"the sweep has no single arm {written!r} in {domain}")
    interval = study.effect(domain, ours, theirs)
    return ours, interval, interval.note or "95 % paired-t interval over seeds"


def _best(study: Study, domain: str, over: str) -> tuple[str, Interval, str]:
    families = study.bands(domain)
    if len(families) != 1:
        return _nothing("no arm has a complexity band" if not families else "bands have several baselines; name an arm")
    (baseline, arms), = families.items()
    reference = baseline if over == "baseline" else _resolve(study, domain, over, "")
    if not reference:
        return _nothing(f"the sweep has no single arm {over!r} in {domain}")
    made, kept, _ = study.family(domain, arms, reference)
    if made is None:
        return _nothing("no seed is scored in the reference and in a band")
    interval = made.intervals[made.best]
    text = f"simultaneous 95 % max-t interval over {len(kept)} of {len(arms)} bands, variance pooled"
    return kept[made.best], interval, interval.note or text


def _resolve(study: Study, domain: str, written: str, like: str) -> str:
    """Return the arm that `written` names: its label, or an upstream with one arm (or one in the band of `like`)."""
    arms = [arm for arm in study.records.arms if (domain, arm) in study.cells]
    if written in arms:
        return written
    rows = {arm: study.cells[domain, arm][0] for arm in arms}
    named = [arm for arm in arms if rows[arm]["upstream"] == written]
    if len(named) > 1 and like:
        named = [arm for arm in named if rows[arm]["complexity"] == rows[like]["complexity"]]
    return named[0] if len(named) == 1 else ""
