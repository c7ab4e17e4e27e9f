"""Scores of the final model against its untrained twin of the same seed. Pure, on a study."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.statistics import Interval, paired_t
from analysis.study import Study, once


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One score of one arm in one domain."""

    domain: str
    arm: str
    score: str
    trained: float
    """Mean over seeds, in the task's unit."""
    untrained: float
    difference: Interval
    """Trained minus untrained, paired by seed."""


@once
def probes(study: Study) -> list[Probe]:
    """Return every score that a final model and its twin share, by domain, arm and score.

    What a guess gets beside a score, `SCORE.unigram`, is no score of theirs.
    """
    frame = study.records.scores
    values: dict[tuple[str, str], dict[str, float]] = {}
    for trial, role, name, value in zip(*(frame[c] for c in ("trial", "role", "name", "value")), strict=True):
        if role in ("evaluate", "twin"):
            values.setdefault((str(trial), str(name)), {})[str(role)] = float(value)
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for (trial, name), both in values.items():
        if len(both) == 2 and (trial, name.rpartition(".")[0]) not in values:
            row = study.trials[trial]
            found.setdefault((row["domain"], row["arm"], name), []).append((both["evaluate"], both["twin"]))
    order = {arm: i for i, arm in enumerate(study.records.arms)}
    places = {domain: i for i, domain in enumerate(study.records.domains)}
    return [
        Probe(
            domain=domain, arm=arm, score=name, trained=sum(a for a, _ in pairs) / len(pairs),
            untrained=sum(b for _, b in pairs) / len(pairs), difference=paired_t([a - b for a, b in pairs]),
        )
        for (domain, arm, name), pairs in sorted(
            found.items(), key=lambda item: (places[item[0][0]], order[item[0][1]], item[0][2]))
    ]
