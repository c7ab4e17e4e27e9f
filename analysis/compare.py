"""Two sweeps, stores, bundles or files of curves beside each other: what agrees, what differs, and why. Reads only.

Numbers are compared by domain and arm: losses of baselines and gains of the others, both at T_b, and every downstream
score, as means over the items that were asked. Seeds of two sweeps
are independent draws (another seed is another text order), so the difference of means has Welch's t interval; where
both sides are the same runs, every number is the same and that is what is said. Settings are compared through the specs
of the stages, in pairs of trials of one domain, arm and seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analysis.downstream import by_seed, unsafe_mark
from analysis.statistics import FEW_SEEDS, MIN_SEEDS, Interval, paired_t, t_critical
from analysis.study import Study
from sweeps.language.manifest import PlanFile, PlanTrial
from sweeps.store.files import flattened, read_json
from sweeps.store.layout import Layout

IDENTICAL, AGREE, DIFFER, UNKNOWN = "identical", "agree", "differ", "not tested"
ABSENT = "(absent)"
PLAN = ("protocol", "scale", "body_parameters", "gate")
"""What of a plan is compared as it stands; the rest through stages."""
_UNTOLD = ("segment.", "seed.")
"""Fields of a stage that follow from others, or are what pairs of trials share."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two."""

    name: str
    study: Study
    layout: Layout | None = None
    """Where its stages lie; None of curves of a file, which have no settings."""

    @property
    def plan(self) -> PlanFile:
        """Its plan."""
        return self.study.records.plan


@dataclass(frozen=True, kw_only=True)
class Change:
    """A setting or a version that is not the same."""

    name: str
    a: str
    b: str
    pairs: int = 0
    """Cells (domain and arm) in which it differs; 0 of what the whole sweep has."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number of both sides."""

    domain: str
    arm: str
    what: str
    """`loss` of a baseline, `gain` of another arm, nats per token at T_b; or `TASK.LEVEL.RUNG`, in the rung's unit."""
    a: Interval
    b: Interval
    difference: Interval
    """b minus a."""
    verdict: str
    """identical (same seeds, same values), agree (the interval holds zero), differ, or not tested."""
    unsafe_a: bool = False
    unsafe_b: bool = False
    """It rests on programs that ran in no sandbox on that side, by --unsafe-exec."""
    doubtful_a: bool = False
    doubtful_b: bool = False
    """The arm's upstream was not learned in every measured seed of that side."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two sides have in common and what not."""

    a: str
    b: str
    settings: Sequence[Change]
    versions: Sequence[Change]
    only_a: Mapping[str, Sequence[str]]
    """Domains, arms, seeds and downstream tasks that only one side has."""
    only_b: Mapping[str, Sequence[str]]
    common: int
    """Trials of one domain, arm and seed that both have planned."""
    same: int
    """Of these, trials of which every stage is the same (by fingerprint)."""
    numbers: Sequence[Number] = field(default_factory=tuple)
    simulated_a: bool = False
    simulated_b: bool = False
    """Every number of that side was made up by the memory executor."""

    @property
    def differs(self) -> bool:
        """True where a setting, a part of the grid or a number is not the same."""
        return bool(self.settings or any(self.only_a.values()) or any(self.only_b.values())
                    or any(n.verdict == DIFFER for n in self.numbers))


def compare(a: Side, b: Side) -> Comparison:
    """Return what two sides have in common and what not."""
    cells = _common(a.plan, b.plan)
    parts = _parts(a), _parts(b)
    return Comparison(
        a=a.name, b=b.name, settings=[*_plans(a.plan, b.plan), *_specs(a, b, cells)],
        versions=list(_changes(a.plan.versions, b.plan.versions)),
        only_a=_only(*parts), only_b=_only(*reversed(parts)), common=len(cells),
        same=sum(bool(one.path) and one.path == two.path for one, two in cells.values()),
        numbers=list(_numbers(a.study, b.study)),
        simulated_a=a.study.records.simulated, simulated_b=b.study.records.simulated,
    )


def welch(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Return mean(b) - mean(a) of two independent samples with its t interval, variances not taken as equal.

    Half-width t(df) sqrt(va + vb) with va = sd_a^2 / n_a and df = (va + vb)^2 / (va^2 / (n_a - 1) + vb^2 / (n_b - 1))
    (Welch 1947). `n`: seeds of the smaller sample, below `MIN_SEEDS` without an interval.
    """
    n = min(len(a), len(b))
    if not n:
        return Interval(mean=math.nan, n=0, note=FEW_SEEDS)
    mean = float(np.mean(b) - np.mean(a))
    if n < MIN_SEEDS:
        return Interval(mean=mean, n=n, note=FEW_SEEDS)
    va, vb = (float(np.var(x, ddof=1)) / len(x) for x in (a, b))
    if va + vb == 0:
        return Interval(mean=mean, low=mean, high=mean, n=n)
    df = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = t_critical(df) * math.sqrt(va + vb)
    return Interval(mean=mean, low=mean - half, high=mean + half, n=n)


# -- numbers -----------------------------------------------------------------------------------------------------------


def _numbers(a: Study, b: Study) -> Iterator[Number]:
    for domain, arm in a.cells:
        if (domain, arm) not in b.cells:
            continue
        what = "loss" if a.cells[domain, arm][0]["is_baseline"] else "gain"
        one, two = (s.losses.get((domain, arm), {}) if what == "loss" else s.gains(domain, arm) for s in (a, b))
        yield _number((domain, arm, what), one, two, (a, b))
    scores = by_seed(b)
    for (domain, arm, name), seeds in by_seed(a).items():
        if (domain, arm, name) in scores:
            marks = [bool(unsafe_mark(s, domain, name, arm)) for s in (a, b)]
            found = _number((domain, arm, name), seeds, scores[domain, arm, name], (a, b))
            yield replace(found, unsafe_a=marks[0], unsafe_b=marks[1])


def _number(
    key: tuple[str, str, str], one: Mapping[int, float], two: Mapping[int, float], studies: tuple[Study, Study]
) -> Number:
    """Return one number from both sides' values by seed."""
    sides = list(one.values()), list(two.values())
    difference = welch(*sides)
    return Number(domain=key[0], arm=key[1], what=key[2], a=paired_t(sides[0]), b=paired_t(sides[1]),
                  difference=difference, verdict=_verdict(one, two, difference),
                  doubtful_a=studies[0].doubtful(key[1]), doubtful_b=studies[1].doubtful(key[1]))


def _verdict(one: Mapping[int, float], two: Mapping[int, float], difference: Interval) -> str:
    if one and one == two:
        return IDENTICAL
    if difference.note:
        return UNKNOWN
    return DIFFER if difference.resolved else AGREE


# -- settings ----------------------------------------------------------------------------------------------------------


def _common(a: PlanFile, b: PlanFile) -> dict[tuple[str, str, int], tuple[PlanTrial, PlanTrial]]:
    """Return (domain, arm, seed) -> the trial of each side."""
    others = {(t.domain, t.arm, t.seed): t for t in b.trials}
    return {key: (t, others[key]) for t in a.trials if (key := (t.domain, t.arm, t.seed)) in others}


def _parts(side: Side) -> dict[str, list[str]]:
    trials = side.plan.trials
    return {"domains": side.study.records.domains, "arms": list(dict.fromkeys(t.arm for t in trials)),
            "seeds": [str(s) for s in sorted({t.seed for t in trials})],
            "downstream tasks": sorted({name.partition(".")[0] for _, _, name in by_seed(side.study)})}


def _only(own: Mapping[str, list[str]], other: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {name: [v for v in values if v not in other[name]] for name, values in own.items()}


def _plans(a: PlanFile, b: PlanFile) -> Iterator[Change]:
    if not (a.protocol and b.protocol):  # curves of a file do not say how they were made
        return
    yield from _changes(_settings(a), _settings(b))


def _settings(plan: PlanFile) -> dict[str, Any]:
    departures = {f"departure {d.field}": f"{d.given} ({d.source})" for d in plan.departures}
    return {name: getattr(plan, name) for name in PLAN} | departures


def _changes(a: Mapping[str, Any], b: Mapping[str, Any], pairs: int = 0) -> Iterator[Change]:
    for name in sorted(a.keys() | b.keys()):
        one, two = a.get(name, ABSENT), b.get(name, ABSENT)
        if one != two:
            yield Change(name=name, a=str(one), b=str(two), pairs=pairs)


def _specs(a: Side, b: Side, cells: Mapping[tuple[str, str, int], tuple[PlanTrial, PlanTrial]]) -> Iterator[Change]:
    """Yield the fields of stages that differ, over the cells that both have, by one seed of each cell."""
    if a.layout is None or b.layout is None:
        return
    first: dict[tuple[str, str], tuple[PlanTrial, PlanTrial]] = {}
    for (domain, arm, _), pair in cells.items():
        first.setdefault((domain, arm), pair)
    found: dict[tuple[str, str, str], int] = {}
    for one, two in first.values():
        if one.path != two.path:
            for change in _changes(_fields(a.layout, one), _fields(b.layout, two)):
                key = change.name, change.a, change.b
                found[key] = found.get(key, 0) + 1
    yield from (Change(name=name, a=left, b=right, pairs=n) for (name, left, right), n in found.items())


def _fields(layout: Layout, trial: PlanTrial) -> dict[str, Any]:
    """Return `kind section.field` -> value of every stage of a trial, the last of each kind."""
    found: dict[str, Any] = {}
    for step in trial.path:
        try:
            spec = read_json(layout.stage(step.kind, step.fingerprint).spec)
        except (FileNotFoundError, ValueError):
            continue
        own = {f"{step.kind} revision of {k}": v for k, v in spec.get("revisions", {}).items()}
        for name, section in spec.get("sections", {}).items():
            own[f"{step.kind} {name}"] = section.get("plugin") or "built in"
            own |= flattened(f"{step.kind} {name}", section.get("values", {}))
        found |= {k: v for k, v in own.items() if not k.partition(" ")[2].startswith(_UNTOLD)}
    return found
