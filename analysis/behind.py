"""What stands behind each number of the main table: seeds, the stages that made them, the command that tells more."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.schema import plain_values
from analysis.study import Study
from analysis.wording import nats, plain

MOST_STAGES, MOST_SEEDS = 1_200, 800
"""On one page: each about 250 kB. The command says what is left out."""


@dataclass(frozen=True, kw_only=True)
class Seed:
    """One trial of a cell."""

    seed: int
    trial: str
    status: str
    loss: str
    """At T_b, nats per token; empty where it has none."""
    gain: str
    """Over its baseline of the same seed, nats per token."""
    command: str
    """What explains every stage of it; empty where the numbers are not from a store."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage that the cell needs."""

    role: str
    label: str
    fingerprint: str
    status: str
    seeds: str
    """Which seeds it serves."""


@dataclass(frozen=True, kw_only=True)
class Behind:
    """One cell of the main table."""

    key: str
    """Of the element on the page."""
    title: str
    seeds: Sequence[Seed]
    steps: Sequence[Step]
    left_out: int = 0
    """Steps that are not on the page."""


def key_of(domain: int, arm: int) -> str:
    """Return the key of a cell, by the places of its domain and its arm."""
    return f"n-{domain}-{arm}"


def behind(study: Study) -> list[Behind]:
    """Return what is behind the cells, in the order of arms and then of domains, up to `MOST_SEEDS`."""
    steps, room, seeds, found = _steps(study), MOST_STAGES, MOST_SEEDS, []
    labels = {(s.kind, s.fingerprint): s.label for s in study.records.plan.stages}
    for a, arm in enumerate(study.records.arms):
        for d, domain in enumerate(study.records.domains):
            seeds -= len(study.cells.get((domain, arm), ()))
            if (domain, arm) not in study.cells or seeds < 0:
                continue
            every = _merged(study, [str(row["trial"]) for row in study.cells[domain, arm]], steps, labels)
            kept = every if len(every) <= room else []
            room -= len(kept)
            found.append(Behind(key=key_of(d, a), title=f"{plain(arm)}, {plain(domain)}", steps=kept,
                                seeds=list(_seeds(study, domain, arm)), left_out=len(every) - len(kept)))
    return found


def _seeds(study: Study, domain: str, arm: str) -> Iterator[Seed]:
    losses, gains = study.losses.get((domain, arm), {}), study.gains(domain, arm)
    for row in study.cells[domain, arm]:
        seed = int(row["seed"])
        yield Seed(
            seed=seed, trial=plain(str(row["trial"])), status=str(row["status"]),
            loss=f"{losses[seed]:.4f}" if seed in losses else "", gain=nats(gains[seed]) if seed in gains else "",
            command=command(study, str(row["trial"])),
        )


def command(study: Study, target: str) -> str:
    """Return what a person types to see why a trial or stage is as it is; empty for curves of a file."""
    if not study.records.plan.stages:
        return ""
    return shlex.join(["orchestrator", "why", target, "--sweep", study.records.plan.name])


Steps = Mapping[str, Sequence[tuple[str, str, str, str]]]
"""Trial -> (role, kind, fingerprint, status) of its path."""


def _steps(study: Study) -> Steps:
    frame = study.records.steps
    found: dict[str, list[tuple[str, str, str, str]]] = {}
    columns = (plain_values(frame[c]) for c in ("trial", "role", "kind", "fingerprint", "status"))
    for trial, *step in zip(*columns, strict=True):
        found.setdefault(trial, []).append((step[0], step[1], step[2], step[3]))
    return found


def _merged(
    study: Study, trials: Sequence[str], steps: Steps, labels: Mapping[tuple[str, str], str]
) -> list[Step]:
    """Return the stages of several seeds, each once, in the order of their paths."""
    users: dict[tuple[str, str, str, str], list[int]] = {}
    for trial in trials:
        for step in steps.get(trial, ()):
            users.setdefault(step, []).append(int(study.trials[trial]["seed"]))
    return [Step(role=role, label=plain(labels.get((kind, fingerprint), kind)), fingerprint=fingerprint, status=status,
                 seeds=", ".join(map(str, seeds)) if len(seeds) < len(trials) or len(seeds) == 1 else "all")
            for (role, kind, fingerprint, status), seeds in users.items()]
