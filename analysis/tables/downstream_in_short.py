"""Downstream tasks for people: one row for each arm and task, on the highest rung that says something of most arms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from analysis.downstream import REFERENCES, Score, downstream
from analysis.item_records import ALL
from analysis.schema import Column, frame_of
from analysis.statistics import Interval
from analysis.study import Study
from analysis.table import Table
from analysis.tables import downstream as whole
from sweeps.language.ladder import LADDER, PASS

SHARED = {column.name: column for column in whole.COLUMNS}
COLUMNS = (
    *(SHARED[name] for name in ("domain", "task", "arm", "learned")),
    Column("rung", "str", "", "the highest rung of the ladder on which most arms beat chance, the unigram model or "
                              "their untrained twin; chosen without a look at differences between arms"),
    SHARED["unit"],
    Column("score", "str", "", "mean over items and seeds, with its 95 % interval"),
    *(SHARED[name] for name in ("chance", "twin", "beats")),
    Column("difference", "str", "", "arm minus scratch on the same items and seeds, with its 95 % interval"),
    *(SHARED[name] for name in ("detectable", "over", "seeds", "items", "not_evaluable", "sandbox")),
)


def rows(study: Study) -> Iterator[Score]:
    """Yield each arm's score on its task's one rung."""
    of_task: dict[tuple[str, str], dict[str, list[Score]]] = {}
    for score in downstream(study):
        if score.level == ALL:
            of_task.setdefault((score.domain, score.task), {}).setdefault(score.name, []).append(score)
    for rungs in of_task.values():
        yield from rungs[max(rungs, key=lambda r: (telling(rungs[r]), place(r)))]


def telling(scores: Sequence[Score]) -> int:
    """Return how many arms beat something."""
    return sum(any(of in score.beats for of in REFERENCES) for score in scores)


def place(name: str) -> tuple[int, int]:
    """Return where a rung stands on the ladder; of several `pass@k` the smallest k stands highest."""
    k = name.removeprefix(PASS)
    return (list(LADDER).index(PASS), -int(k)) if k != name else (list(LADDER).index(name), 0)


def shown(value: Interval, sign: str = "") -> str:
    """Return `0.412 [0.381, 0.443]`; the mean alone where there is no interval, nothing where there is no mean."""
    if not math.isfinite(value.mean):
        return ""
    texts = [f"{v:{sign}.3g}" for v in (value.mean, value.low, value.high)]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]" if math.isfinite(value.low) else texts[0]


def _build(study: Study) -> pd.DataFrame:
    return frame_of((
        {**whole.row(study, score), "score": shown(score.value), "difference": shown(score.difference, "+")}
        for score in rows(study)), COLUMNS)


PLUGIN = Table(
    title="Downstream, in short", columns=COLUMNS, build=_build,
    empty="This sweep asks for no downstream tasks (`downstream.tasks`), or none is done.")
