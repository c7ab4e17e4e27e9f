"""What a field does to the gains. Pure, on a study.

Where scratch has the field as an axis too (`at_values`), each arm meets scratch at the same value, and at scratch's own
best value: a gain at one value that scratch beats at another is no gain. The best value is chosen on the very seeds
that are compared, which favours scratch. Any field (`along`): each arm meets itself at another value, paired by seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from analysis.statistics import Interval
from analysis.study import Study, once
from sweeps.language.manifest import value_text

Row = dict[str, Any]
BUDGET = "token_budget"
"""The one field of `along` that is a column of the trials."""


@dataclass(frozen=True, kw_only=True)
class AtValue:
    """An arm at one value of a field, in one domain."""

    domain: str
    field: str
    """Dotted name."""
    group: str
    """The arm without the field: upstream, band, budget and further fields."""
    arm: str
    value: str
    gain: Interval
    """Over scratch at the same value, paired by seed, nats."""
    best_value: str
    """Scratch's value of the lowest mean loss; empty where it has no scored seed."""
    over_best: Interval
    """Over scratch at that value."""


@once
def at_values(study: Study, domain: str) -> dict[tuple[str, str], list[AtValue]]:
    """Return (field, group) -> its values in the plan's order, of every field that scratch has as an axis."""
    found: dict[tuple[str, str], list[AtValue]] = {}
    for arm in study.treated(domain):
        row = study.cells[domain, arm][0]
        for field, best in _axes(study, domain, row):
            group = group_of(study, row, field)
            found.setdefault((field, group), []).append(AtValue(
                domain=domain, field=field, group=group, arm=arm, value=_value(study, row, field),
                gain=study.effect(domain, arm), best_value=_value(study, best, field) if best else "",
                over_best=study.effect(domain, arm, best["arm"] if best else "-"),
            ))
    return {key: values for key, values in found.items() if len(values) > 1}


def _axes(study: Study, domain: str, row: Row) -> Iterator[tuple[str, Row]]:
    """Yield each field in which an arm's baseline has others beside it, and the best of these."""
    own = study.fields.get(row["baseline"], {})
    baselines = [c[0] for a in study.records.baseline_arms if (c := study.cells.get((domain, a)))] if own else []
    for field in own:
        beside = [b for b in baselines if _without(study.fields[b["trial"]], field) == _without(own, field)]
        if len(beside) > 1:
            yield field, _best(study, domain, beside)


def _best(study: Study, domain: str, baselines: list[Row]) -> Row:
    """Return the baseline of the lowest mean loss over the seeds that all of them have; empty where there is none."""
    losses = [study.losses.get((domain, b["arm"]), {}) for b in baselines]
    seeds = set[int]().union(*losses).intersection(*losses)
    means = [sum(loss[seed] for seed in sorted(seeds)) for loss in losses]
    return baselines[means.index(min(means))] if seeds else {}


@dataclass(frozen=True, kw_only=True)
class Along:
    """An arm at one value of a field beside the same at another value, in one domain."""

    group: str
    """The arm without the field."""
    arm: str
    value: str
    gain: Interval
    """Over its own baseline, paired by seed, nats."""
    over: str
    """The arm at the other value; empty of the first value."""
    change: Interval
    """Its loss minus this arm's, paired by seed, nats; positive: this value is better."""

    @property
    def reading(self) -> str:
        """What the interval of the change says."""
        if not self.over or self.change.note:
            return ""
        return {1: "better", -1: "worse", 0: "not resolved"}[self.change.resolved]


def along(study: Study, domain: str, field: str, *, stepwise: bool) -> list[Along]:
    """Return the domain's arms that have several values of a field, group by group, each beside another value.

    Args:
        study: the study.
        domain: the domain.
        field: a dotted field, or `BUDGET`, whose values stand in the order of their tokens; others in the plan's.
        stepwise: beside the value before, else beside the first one.
    """
    groups: dict[str, list[Row]] = {}
    for arm in study.treated(domain):
        row = study.cells[domain, arm][0]
        if field == BUDGET or field in study.fields[row["trial"]]:
            groups.setdefault(group_of(study, row, field), []).append(row)
    found = []
    for group, rows in groups.items():
        if len({_value(study, row, field) for row in rows}) > 1:
            ordered = sorted(rows, key=lambda r: int(r["upstream_tokens"])) if field == BUDGET else rows
            found += [_along(study, domain, field, (group, row), ordered[max(0, i - 1) if stepwise else 0])
                      for i, row in enumerate(ordered)]
    return found


def _along(study: Study, domain: str, field: str, named: tuple[str, Row], other: Row) -> Along:
    group, row = named
    over = "" if other is row else str(other["arm"])
    return Along(group=group, arm=row["arm"], value=_value(study, row, field), gain=study.effect(domain, row["arm"]),
                 over=over, change=study.effect(domain, row["arm"], over or "-"))


def _value(study: Study, row: Row, field: str) -> str:
    return str(row[BUDGET]) if field == BUDGET else value_text(study.fields[row["trial"]][field])


def group_of(study: Study, row: Row, field: str) -> str:
    """Return the name of a trial's arm without a field."""
    others = _without(study.fields[row["trial"]], field)
    parts = [row["upstream"], row["complexity"], row[BUDGET] if len(study.budgets) > 1 and field != BUDGET else "",
             *(f"{k.rpartition('.')[2]}={value_text(v)}" for k, v in others.items())]
    return " ".join(filter(None, parts))


def _without(fields: dict[str, Any], field: str) -> dict[str, Any]:
    return {k: v for k, v in fields.items() if k != field}
