"""Which levels of the downstream tasks can tell models of this size apart: neither at the floor nor at the ceiling."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.downstream import Score, downstream
from analysis.schema import Column, frame_of
from analysis.study import Study
from analysis.table import Table
from analysis.tables.downstream import SANDBOX
from sweeps.language.ladder import PASS

CEILING = 0.95
"""Share of the points from which on a level leaves no room."""
FLOOR, BETWEEN, TOP = "floor", "between", "ceiling"

COLUMNS = (
    Column("domain", "str", "", "domain that the models were trained on"),
    Column("task", "str", "", "downstream task"),
    Column("level", "str", "", "difficulty of the items; all: every item"),
    Column("rung", "str", "", "what is measured of an item, of what is a share of points"),
    Column("chance", "float64", "", "what every token or choice alike gets"),
    Column("lowest", "float64", "", "mean over items and seeds of the arm that has least"),
    Column("highest", "float64", "", "of the arm that has most"),
    Column("arms", "int64", "", "arms with a score"),
    Column("above_chance", "int64", "", "arms that beat chance: the 95 % interval of the difference is above zero"),
    Column("seeds", "int64", "", "seeds of the arm that has fewest"),
    Column("items", "int64", "", "items of the level"),
    Column("mark", "str", "", f"{FLOOR}: no arm beats chance; {TOP}: every arm has {CEILING:.0%} or more; else "
                              f"{BETWEEN}; empty: with fewer than three seeds nobody can tell"),
    SANDBOX,
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of(_rows(study), COLUMNS)


def _rows(study: Study) -> Iterator[dict[str, object]]:
    found: dict[tuple[str, str, str, str], list[Score]] = {}
    for score in downstream(study):
        if score.rung.unit == "share" and not score.name.startswith(PASS) and score.value.n:
            found.setdefault((score.domain, score.task, score.level, score.name), []).append(score)
    for (domain, task, level, name), scores in found.items():
        means, above = [s.value.mean for s in scores], sum("chance" in s.beats for s in scores)
        yield {
            "domain": domain, "task": task, "level": level, "rung": name,
            "chance": scores[0].references.get("chance", float("nan")), "lowest": min(means), "highest": max(means),
            "arms": len(scores), "above_chance": above, "seeds": min(s.value.n for s in scores),
            "items": max(s.value.items for s in scores), "mark": mark(scores, min(means), above),
            "sandbox": ", ".join(sorted({kind for s in scores for kind in s.sandbox.split(", ") if kind})),
        }


def mark(scores: list[Score], lowest: float, above: int) -> str:
    """Return where a level stands for these arms."""
    if lowest >= CEILING:
        return TOP
    if above:
        return BETWEEN
    return "" if any(s.value.note for s in scores) else FLOOR


PLUGIN = Table(
    title="Difficulty", columns=COLUMNS, build=_build,
    empty="This sweep asks for no downstream tasks (`downstream.tasks`), or none is done.")
