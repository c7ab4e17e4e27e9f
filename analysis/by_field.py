"""What a field does to the gains, where scratch has it as an axis too. Pure, on a study.

Each arm meets scratch at the same value of the field, and at scratch's own best value: a gain at one value that scratch
beats at another is no gain. The best value is chosen on the very seeds that are compared, which favours scratch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from analysis.statistics import Interval
from analysis.study import Study
from sweeps.language.manifest import value_text

Row = dict[str, Any]


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


def at_values(study: Study, domain: str) -> dict[tuple[str, str], list[AtValue]]:
    """Return (field, group) -> its values in the plan's order, of every field that scratch has as an axis."""
    found: dict[tuple[str, str], list[AtValue]] = {}
    for arm in study.treated(domain):
        row = study.cells[domain, arm][0]
        for field, best in _axes(study, domain, row):
            group = _group(study, row, field)
            found.setdefault((field, group), []).append(AtValue(
                domain=domain, field=field, group=group, arm=arm, value=_value(study, row, field),
                gain=study.effect(domain, arm), best_value=_value(study, best, field) if best else "",
                over_best=study.effect(domain, arm, best["arm"] if best else "-"),
            ))
    return {key: values for key, values in found.items() if len(values) > 1}


def _axes(study: Study, domain: str, row: Row) -> Iterator[tuple[str, Row]]:
    """Yield each field in which an arm's baseline has others beside it, and the best of these."""
    own = study.fields.get(row["baseline"], {})
    baselines = [c[0] for (d, _), c in study.cells.items() if d == domain and c[0]["is_baseline"]]
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


def _value(study: Study, row: Row, field: str) -> str:
    return value_text(study.fields[row["trial"]][field])


def _group(study: Study, row: Row, field: str) -> str:
    others = _without(study.fields[row["trial"]], field)
    budgets = {c[0]["token_budget"] for c in study.cells.values()} - {""}
    parts = [row["upstream"], row["complexity"], row["token_budget"] if len(budgets) > 1 else "",
             *(f"{k.rpartition('.')[2]}={value_text(v)}" for k, v in others.items())]
    return " ".join(filter(None, parts))


def _without(fields: dict[str, Any], field: str) -> dict[str, Any]:
    return {k: v for k, v in fields.items() if k != field}
