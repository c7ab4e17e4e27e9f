"""Whether a search resolved what it chose: a baseline at less than its best makes a gain of every arm at once."""

from __future__ import annotations

from analysis.statistics import Interval, paired_t
from analysis.study import Study
from sweeps.language.manifest import PlanChoice


def unresolved(study: Study, domain: str, arm: str) -> tuple[PlanChoice, Interval] | None:
    """Return an arm's choice and by how much it led the runner-up; None where it was not searched, or led resolved.

    The lead is the runner-up's held-out loss minus that of the choice, at the last rung that had both, nats per token,
    with its paired-t interval over the search's seeds. Its lower end is how much better the runner-up may be.
    """
    ids = {row["trial"] for row in study.cells.get((domain, arm), ())}
    cells = {trial.cell for trial in study.records.plan.trials if trial.id in ids}
    for choice in study.records.plan.searched:
        if choice.cell in cells and choice.lead and not (lead := paired_t(choice.lead)).low > 0:
            return choice, lead
    return None
