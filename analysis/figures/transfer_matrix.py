"""Which part of the body carries the gain: what is re-initialised, against how the rest is carried over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.drawing import DOUBTFUL, Drawing, FigurePlugin
from analysis.heat import READING, Matrix, draw
from analysis.statistics import Interval
from analysis.study import Study
from analysis.wording import interval, listed, plain, short
from sweeps.language.manifest import value_text

FIELD = "transfer.reinit"
Gains = dict[tuple[str, str], Interval]
"""(what is re-initialised, the arm otherwise) -> gain."""


def _build(study: Study) -> list[Drawing]:
    return list(_drawings(study))


def _drawings(study: Study) -> Iterator[Drawing]:
    for i, domain in enumerate(study.records.domains):
        found = _gains(study, domain)
        if len({row for row, _ in found}) < 2:
            continue
        said = listed((f"{row}, {column} {interval(effect)}" for (row, column), effect in found.items()), 40)
        yield draw(
            f"transfer_matrix-{i}", f"Gain by what is carried over, {plain(domain)}",
            f"Gain over {study.reference} in {plain(domain)}, nats per token, by what is re-initialised: {said}.",
            _matrix(found, domain),
        )


def _gains(study: Study, domain: str) -> Gains:
    found: Gains = {}
    for arm in study.treated(domain):
        row = study.cells[domain, arm][0]
        fields = study.fields.get(row["trial"], {})
        if FIELD in fields and study.gains(domain, arm):
            rest = _rest(row, fields) + " ?" * study.doubtful(arm)
            found[value_text(fields[FIELD]), rest] = study.effect(domain, arm)
    return found


def _rest(row: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    others = [f"{k.rpartition('.')[2]} {value_text(v)}" for k, v in fields.items() if k != FIELD]
    return ", ".join(filter(None, [f"{row['upstream']} {row['complexity']}".strip(), *others]))


def _matrix(found: Gains, domain: str) -> Matrix:
    rows, columns = (list(dict.fromkeys(key[k] for key in found)) for k in (0, 1))
    return Matrix(
        rows=[short(r, 28) for r in rows], columns=[short(c, 20) for c in columns], title=short(domain),
        rows_are="re-initialised", gains={(rows.index(r), columns.index(c)): gain for (r, c), gain in found.items()})


PLUGIN = FigurePlugin(
    title="Transfer matrix",
    caption="Gain in nats per token where these parts of the pre-pre-trained body are re-initialised and the others "
            f"are carried over, with its {READING} {DOUBTFUL}",
    build=_build, absent="the sweep re-initialises no parts of the body (axis transfer.reinit)",
)
