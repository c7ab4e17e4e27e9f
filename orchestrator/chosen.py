"""Which choice of a search a stage was given, and what it rested on, from plan.json and choice.json. Light."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.targets import Plan
from sweeps.errors import RecordError
from sweeps.language.asha import SELECT, Candidate
from sweeps.store.files import number, read_json
from sweeps.store.layout import Layout
from sweeps.store.records import artifacts_of

CHOICE = "choice.json"


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a search chose for a stage's cell."""

    search: str
    cell: str
    select: str
    """Fingerprint of the stage that holds the choice."""
    values: Mapping[str, float]
    path: str = ""
    """choice.json."""
    candidates: tuple[Mapping[str, Any], ...] = ()
    """Values of each, and its losses at the rungs that it counts at, nats per token."""
    damage: str = ""
    """Why there is no path."""

    def line(self) -> str:
        """Return it as a sentence: the loss of the choice, and of the next best at the last rung."""
        values = ", ".join(f"{key} = {value}" for key, value in self.values.items())
        told = f"{values}: chosen by search {self.search} for {self.cell}"
        if self.damage:
            return f"{told}; {self.damage}"
        rungs = max(len(candidate["losses"]) for candidate in self.candidates)
        last = {Candidate(values=c["values"], runs=()).name: number(c["losses"][-1])
                for c in self.candidates if len(c["losses"]) == rungs}
        loss = last.pop(Candidate(values=dict(self.values), runs=()).name)
        beaten = "".join(f", before {name} with {last[name]:.4f}" for name in sorted(last, key=lambda n: last[n])[:1])
        return f"{told}, {loss:.4f} nats at the last of {rungs} rungs{beaten}: {self.path}"


def chosen(layout: Layout, plans: Iterable[Plan], key: str) -> Iterator[Chosen]:
    """Yield the choices that a stage was given, as the plans that name it say."""
    taken = {c["select"]: c for plan in plans for c in plan.searched
             if c["select"] in plan.stages.get(key, {}).get("choices", ())}
    for select, choice in taken.items():
        given = {"search": choice["sweep"], "cell": choice["cell"], "select": select, "values": choice["values"]}
        try:
            path = artifacts_of(layout.stage(SELECT, select)) / CHOICE
            made = read_json(path)
            anew = "" if made["values"] == choice["values"] else f"made anew since, it says {made['values']}: {path}"
            yield Chosen(**given, path="" if anew else str(path), candidates=tuple(made["candidates"]), damage=anew)
        except (RecordError, FileNotFoundError) as error:  # a copy of a store may lack it
            yield Chosen(**given, damage=str(error))
