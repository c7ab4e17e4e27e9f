"""The curves that a page's own script draws: few enough points for a screen, and the pens that figures have.

One line per domain, arm and way of counting (`scored`: evaluations that count; the others are a trunk's, drawn only):
the mean over seeds and their range, never single trials. A large sweep's lines are thinned; where that would leave too
few points of each, the page has those of the first domains and says so. Its x is what t PT tokens cost in a unit, plus
what the upstream cost where a reader charges it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.drawing import INK, Pen, pens
from analysis.load import TRAINING_ROLES
from analysis.schema import plain_values
from analysis.spread import Spread
from analysis.study import Study
from analysis.wording import count, plain

MOST_POINTS = 10_000
"""Of all lines together: about 250 kB of the page."""
LINE_POINTS = 200
"""Of one line: a point for every four pixels of a large screen."""
FEWEST_POINTS = 20
"""Of one line where it has as many: fewer show no curve."""
DIGITS = 6
UNITS = ("tokens", "flops", "hours")
Key = tuple[str, str, bool]
"""Domain, arm, scored."""


@dataclass(frozen=True)
class Curves:
    """What the script draws."""

    data: str = ""
    """JSON for a <script> element: no character in it can end the element. Empty: there are no curves."""
    left_out: str = ""
    """What of the records it does not have, in words."""


def curve_data(study: Study) -> Curves:
    """Return the curves of a study."""
    if not study.spread:
        return Curves()
    kept = _kept(study)
    most = max(2, min(LINE_POINTS, MOST_POINTS // len(kept)))
    text = json.dumps(_data(study, kept, most), separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Curves(text, _left_out(study, kept, most))


def _kept(study: Study) -> dict[Key, Spread]:
    """Return the lines that the page has: of whole domains, or of the first arms where one alone has too many."""
    lines = list(study.spread.items())
    room = MOST_POINTS // FEWEST_POINTS
    cut = lines[room][0][0] if len(lines) > room else ""
    whole = [line for line in lines[:room] if line[0][0] != cut]
    return dict(whole or lines[:room])


def _left_out(study: Study, kept: dict[Key, Spread], most: int) -> str:
    parts = [f"of the first {here} of {count(every, noun)}" for noun, place, every in (
        ("domain", 0, len(study.records.domains)), ("arm", 1, len(study.records.arms)))
        if len(kept) < len(study.spread) and (here := len({key[place] for key in kept})) < every]
    if any(len(spread.tokens) > most for spread in kept.values()):
        parts.append(f"thinned to at most {most} points a line")
    return ", ".join(parts)


def _data(study: Study, kept: dict[Key, Spread], most: int) -> dict[str, Any]:
    look, costs = pens(study), _costs(study, {key[:2] for key in kept})
    domains, arms = list(dict.fromkeys(domain for domain, _, _ in kept)), {arm for _, arm, _ in kept}
    named = [arm for arm in study.records.arms if arm in arms]
    lines = [{"domain": domains.index(domain), "arm": named.index(arm), "scored": scored, "cost": costs[domain, arm],
              **_points(spread, most)} for (domain, arm, scored), spread in kept.items()]
    return {
        "domains": [plain(d) for d in domains],
        "arms": [{"name": plain(arm) + " ?" * study.doubtful(arm), **_pen(look[arm])} for arm in named],
        "lines": lines,
    }


def _pen(pen: Pen) -> dict[str, str]:
    dash = "" if isinstance(pen.dash, str) else " ".join(f"{2 * part:g}" for part in pen.dash[1])
    return {"colour": "" if pen.colour == INK else pen.colour, "dash": dash, "marker": pen.marker}


def _points(spread: Spread, most: int) -> dict[str, list[float]]:
    """Return the mean over seeds and their range at each token count; evenly thinned, first and last kept."""
    places = np.unique(np.linspace(0, len(spread.tokens) - 1, min(most, len(spread.tokens))).round().astype(int))
    columns = {"t": spread.tokens, "mean": spread.mean, "low": spread.low, "high": spread.high}
    return {**{name: [_rounded(v) for v in values[places].tolist()] for name, values in columns.items()},
            "seeds": spread.seeds[places].tolist()}


def _rounded(value: float) -> float:
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded


def _costs(
    study: Study, cells: Collection[tuple[str, str]]
) -> dict[tuple[str, str], dict[str, list[float | None]]]:
    """Return (domain, arm) of these -> for each of `UNITS` what a PT token and what the upstream costs; None: unknown.

    Hours are wall time of the attempts that committed, mean over the seeds that have them, spread evenly over tokens.
    """
    hours = _hours(study)
    found = {}
    for domain, arm in cells:
        rows = study.cells[domain, arm]
        own = [hours[r["trial"]] for r in rows if r["trial"] in hours]
        pairs = (1.0, float(rows[0]["upstream_tokens"])), (
            float(rows[0]["flops_per_token"]), float(rows[0]["upstream_flops"])), (
            float(np.mean([h[0] for h in own])) if own else math.nan,
            float(np.mean([h[1] for h in own])) if own else math.nan)
        found[domain, arm] = {unit: [_known(p), _known(u)] for unit, (p, u) in zip(UNITS, pairs, strict=True)}
    return found


def _known(value: float) -> float | None:
    return _rounded(value) if math.isfinite(value) else None


def _hours(study: Study) -> dict[str, tuple[float, float]]:
    """Return trial -> hours per PT token and of its upstream, of trials whose training stages are all done."""
    steps = study.records.steps
    own = {(s.kind, s.fingerprint): s.tokens for s in study.records.plan.stages}
    sums: dict[str, list[float]] = {}  # trial -> PT seconds, PT tokens, upstream seconds
    names = ("trial", "role", "kind", "fingerprint", "status", "seconds")
    for trial, role, kind, fingerprint, status, seconds in zip(*(plain_values(steps[n]) for n in names), strict=True):
        if role not in TRAINING_ROLES:
            continue
        total, spent = sums.setdefault(trial, [0.0, 0.0, 0.0]), seconds if status == "done" else math.nan
        total[2 if role == "prepretrain" else 0] += spent
        total[1] += 0 if role == "prepretrain" else own.get((kind, fingerprint), 0)
    return {trial: (pt / 3_600 / tokens, upstream / 3_600) for trial, (pt, tokens, upstream) in sums.items()
            if tokens and math.isfinite(pt + upstream)}
