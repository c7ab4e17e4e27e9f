"""What is found out before a sweep runs, for people: how much of each band is accepted, and what its rules will about
cost; and whether programs that models write can be run here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.arguments import duration
from orchestrator.clusters import profile
from orchestrator.plan import Planned, complete
from sweeps.language.generation import FIELD
from sweeps.language.parts import Part
from sweeps.language.plugins import Survey
from sweeps.language.stage import section

SLOW_SECONDS = 600.0
"""Rules of one bank that take longer than this on one core deserve a warning."""
RARE = 0.02
"""So does a band that accepts less than this."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """The rules of one bank that a sweep has still to find."""

    survey: Survey
    rules: int
    stages: Mapping[str, float]
    """Fingerprint of a stage `rules` that is to run -> seconds of one core."""

    @property
    def seconds(self) -> float:
        """Of one core; a lower bound where the pilot accepted none."""
        return sum(self.stages.values())

    @property
    def line(self) -> str:
        """Return acceptance and cost in a line of a plan."""
        survey = self.survey
        low, high = survey.interval
        return (f"{survey.band}: accepts {100 * survey.acceptance:.2g} % ({100 * low:.2g} to {100 * high:.2g}); "
                f"{self.rules:,} rules, {duration(self.seconds)}")

    @property
    def warning(self) -> str:
        """Return what a person should know before paying for it; empty where there is nothing."""
        survey, cost = self.survey, f"{self.rules:,} rules take about {duration(self.seconds)} of one core"
        if not self.rules:
            return ""
        if not survey.accepted:
            return (f"band {survey.band}: none of {len(survey.percents)} random rules was accepted, so at most "
                    f"{100 * survey.interval[1]:.2g} % are, and {cost} or more; choose a wider band")
        if survey.acceptance < RARE or self.seconds > SLOW_SECONDS:
            return f"band {survey.band}: accepts about {100 * survey.acceptance:.2g} % of random rules, so {cost}"
        return ""

    def as_json(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        survey = self.survey
        return {"band": survey.band, "candidates": len(survey.percents), "accepted": survey.accepted,
                "acceptance": survey.acceptance, "interval": survey.interval,
                "ceiling_percent": survey.ceiling, "rules": self.rules,
                "seconds": self.seconds, "warning": self.warning}


def searches(planned: Planned) -> list[Search]:
    """Return every bank of the plan, in the order of its trials; the pilots' samples are computed once a process."""
    nodes = {key: node for key, node in planned.graph.nodes.items() if node.spec.kind == "rules"}
    done = complete(planned.layout, nodes.values())
    blocks: dict[str, dict[str, Any]] = {}  # text of a bank's fields -> its blocks that are to run
    for key, node in nodes.items():
        if key not in done:
            sections = node.spec.sections
            blocks.setdefault(repr(sections["bank"].values), {})[key] = sections["block"].values
    parts = {id(part.science): part for trial in planned.trials for part in trial.trained.streams.values()}
    surveys = dict(filter(None, (_measured(planned, part) for part in parts.values())))
    found = []
    for bank, survey in surveys.items():
        mine = blocks.get(repr(section(bank).values), {})
        found.append(Search(survey=survey, rules=sum(block["count"] for block in mine.values()),
                            stages={key: _seconds(survey, block) for key, block in mine.items()}))
    return found


def _measured(planned: Planned, part: Part) -> tuple[Any, Survey] | None:
    """Return the fields of the bank that an upstream reads, and what its pilot measured; None where it reads none."""
    upstream = planned.registries.upstreams[part.upstream]
    if upstream.survey is None or upstream.bank is None:
        return None
    return upstream.bank(part.science), upstream.survey(part.science)


def _seconds(survey: Survey, block: Mapping[str, Any]) -> float:
    share = survey.acceptance or survey.interval[1]
    return float(block["count"] / share * survey.seconds_per_candidate)


def warnings(found: Iterable[Search]) -> Iterator[str]:
    """Yield the warning of each bank that has one."""
    yield from filter(None, (search.warning for search in found))


def unsandboxed(planned: Planned) -> Iterator[str]:
    """Yield what a person should know who asks this machine for programs that no sandbox here can run.

    Costs about a second where a sweep has such stages to run, else nothing.
    """
    nodes = planned.graph.nodes.values()
    tasks = planned.registries.tasks
    asking = [n for n in nodes if n.spec.kind == "downstream" and any(
        section.values.get(FIELD, {}).get("samples") and not getattr(tasks[key.removeprefix("task.")], "judge", "")
        for key, section in n.spec.sections.items())]
    here = profile(planned.sweep.run)["executor"] == "local" and not planned.unsafe_exec
    if not here or len(complete(planned.layout, asking)) == len(asking):
        return
    from workloads.sandbox.ladder import NoSandbox, open_box  # only where it is asked for

    try:
        open_box()
    except NoSandbox as reason:
        yield f"{len(asking)} stages will not evaluate the programs that models write: {reason}"
