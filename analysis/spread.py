"""The losses of a cell's seeds at each token count: what curves of a sweep are drawn from. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.convergence import Floats
from analysis.load import Records


@dataclass(frozen=True)
class Spread:
    """The losses of one cell's seeds at each token count; all arrays are (evaluations,)."""

    tokens: Floats
    mean: Floats
    low: Floats
    high: Floats
    seeds: npt.NDArray[np.int64]


def spread(records: Records) -> dict[tuple[str, str, bool], Spread]:
    """Return (domain, arm, scored) -> its losses over seeds, in the plan's order."""
    curves = records.curves
    domain, arm = (curves[name].astype("category").cat for name in ("domain", "arm"))
    place, tokens = pd.factorize(curves["tokens"].to_numpy(), sort=True)
    # one whole number for each cell and token count: grouping by four columns takes twice as long
    cell = (domain.codes.to_numpy(np.int64) * len(arm.categories) + arm.codes.to_numpy()) * 2 + curves["scored"]
    made = curves["loss"].groupby(cell.to_numpy() * len(tokens) + place).agg(["mean", "min", "max", "count"])
    made = made[np.isfinite(made["mean"])]  # a trunk that diverged is drawn as far as it has losses
    if made.empty:
        return {}
    cells, places = np.divmod(made.index.to_numpy(), len(tokens))
    first = np.flatnonzero(np.diff(cells, prepend=-1))
    columns = (tokens[places], *(made[name].to_numpy() for name in ("mean", "min", "max", "count")))
    parts = zip(*(np.split(column, first[1:]) for column in columns), strict=True)
    pairs, scored = np.divmod(cells[first], 2)
    named = (of.categories.to_numpy()[codes].tolist() for of, codes in zip(
        (domain, arm), np.divmod(pairs, len(arm.categories)), strict=True))
    keys = zip(*named, (scored == 1).tolist(), strict=True)
    domains, arms = ({name: i for i, name in enumerate(names)} for names in (records.domains, records.arms))
    found = {key: Spread(*part) for key, part in zip(keys, parts, strict=True)}
    return dict(sorted(found.items(), key=lambda item: (domains[item[0][0]], arms[item[0][1]], item[0][2])))
