"""Every science field that is not what the protocol preset says."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.schema import Column, frame_of
from analysis.study import Study
from analysis.table import Table
from sweeps.store.files import to_json

COLUMNS = (
    Column("field", "str", "", "science field"),
    Column("given", "str", "", "value in this sweep"),
    Column("preset", "str", "", "value of the protocol preset"),
    Column("source", "str", "", "who departs: file, --set, the scale, or `not yet searched`"),
)


def _text(value: object) -> str:
    return value if isinstance(value, str) else to_json(value)


def _build(study: Study) -> pd.DataFrame:
    return frame_of(
        ({"field": d.field, "given": d.text if isinstance(d.given, Mapping) else _text(d.given),
          "preset": _text(d.preset), "source": d.source}
         for d in study.records.plan.departures), COLUMNS,
    )


PLUGIN = Table(
    title="Departures from the protocol preset", columns=COLUMNS, build=_build,
    empty="No field departs from the protocol preset.",
)
