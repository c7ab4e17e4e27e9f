"""An arm against the controls that keep everything but its structure. Pure, on a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analysis.statistics import Interval
from analysis.study import Study, once


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One arm against one control in one domain."""

    domain: str
    arm: str
    control: str
    same_band: bool
    """Both have the same complexity band, or the control has none, so that nothing but structure differs."""
    over_scratch: Interval
    """The arm's gain over scratch, nats."""
    control_over_scratch: Interval
    difference: Interval
    """The arm's gain over the control, paired by seed, nats."""

    @property
    def reading(self) -> str:
        """What the difference says."""
        if self.difference.note:
            return self.difference.note
        return {1: "more than the control", -1: "less than the control", 0: "not resolved"}[self.difference.resolved]


@once
def contrasts(study: Study, domain: str) -> list[Contrast]:
    """Return every arm that is no control against each control of its kind, in the plan's order.

    A control belongs to the upstream whose fields it keeps (`nca_shuffled`: `nca`), or to all where it keeps none's or
    the sweep has no arm of it. Controls of the same band and budget are taken where there are any; else all of the
    control's arms. Where the sweep has a field as an axis, only controls with the arm's value are.
    """
    treated = [(arm, study.cells[domain, arm][0]) for arm in study.treated(domain)]
    controls = [(arm, row) for arm, row in treated if row["is_control"]]
    upstreams = {row["upstream"] for _, row in treated if not row["is_control"]}
    general = [name for name, c in controls if c["control_of"] not in upstreams]
    found = []
    for arm, row in treated:
        if row["is_control"]:
            continue
        mine = [(name, c) for name, c in controls if name in general or c["control_of"] == row["upstream"]]
        mine = [(name, c) for name, c in mine if _agree(study.fields[row["trial"]], study.fields[c["trial"]])]
        for name in _closest(row, mine):
            found.append(Contrast(
                domain=domain, arm=arm, control=name,
                same_band=study.cells[domain, name][0]["band"] in ("", row["band"]),
                over_scratch=study.effect(domain, arm),
                control_over_scratch=study.effect(domain, name), difference=study.effect(domain, arm, name),
            ))
    return found


def _agree(fields: dict[str, Any], others: dict[str, Any]) -> bool:
    """Return whether the fields that both have on axes are equal."""
    return all(fields[key] == others[key] for key in fields.keys() & others.keys())


def _closest(row: dict[str, Any], controls: list[tuple[str, dict[str, Any]]]) -> list[str]:
    kept = controls
    for key in ("token_budget", "band"):
        same = {c["upstream"] for _, c in kept if c[key] == row[key]}
        kept = [(name, c) for name, c in kept if c[key] == row[key] or c["upstream"] not in same]
    return [name for name, _ in kept]
