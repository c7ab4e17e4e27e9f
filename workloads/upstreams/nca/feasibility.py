"""The pilot: can this band be met at all? NumPy and zlib, or the C path where it was built: a plan takes a second."""

from __future__ import annotations

from functools import cache
from typing import cast

import numpy as np
import numpy.typing as npt

from sweeps.language.plugins import Survey
from workloads.upstreams.nca import native, reference
from workloads.upstreams.nca.bank import Search
from workloads.upstreams.nca.complexity import Band, ceiling, raw_bytes, wilson
from workloads.upstreams.nca.rollout import Backend
from workloads.upstreams.nca.science import ComplexityScience, NcaBankScience, parse_band

CANDIDATES = 256
CELL_STEPS = 800_000
"""Cells times steps that are computed at most (about a second): large grids get fewer candidates, 32 at least."""
CELL_STEP_SECONDS, DEFLATE_SECONDS = 36e-9, 52e-9
"""What one core takes for a cell's step (by the C path; 125e-9 by numba) and for a byte that is compressed, from the
figures of benchmarks/README.md: a plan's guess, which decides nothing."""


def reasons(bank: NcaBankScience) -> list[str]:
    """Return why no rules can be found for `bank`; empty where they can."""
    scoring, top = bank.complexity, ceiling(bank)
    low, _ = parse_band(scoring.band)
    unit = top if scoring.scale == "normalized" else 1.0
    what = f"complexity.band {scoring.band} ({scoring.scale}) cannot be met with n = {bank.states}"
    reachable = f"the noise ceiling is {top:.3f} raw ({100 * top / unit:.0f} % on this scale)"
    if low / 100 * unit >= top:
        return [f"{what}: {reachable}; choose a band below it"]
    scores, band = pilot_scores(bank), Band.of(bank)
    seen = scores.mean(axis=1) / unit
    straddled = bool(seen.min() < band.low and band.high < seen.max())
    if band.accepts(scores).any() or (straddled and band.holds_a_score(raw_bytes(bank) * scoring.trials)):
        return []  # a narrow band among the scores seen is rare, not impossible
    return [
        f"{what}: none of {len(scores)} random rules scored inside ({100 * seen.min():.0f} to {100 * seen.max():.0f} % "
        f"seen); {reachable}; choose a wider band, or one nearer to what was seen"
    ]


def survey(bank: NcaBankScience) -> Survey:
    """Return what the pilot's random rules scored, how many the band accepts, and about what a candidate costs."""
    scoring, band, scores = bank.complexity, Band.of(bank), pilot_scores(bank)
    accepted = int(band.accepts(scores).sum())
    cell_steps = bank.grid.height * bank.grid.width * (bank.burn_in + (scoring.frames - 1) * bank.frame_stride)
    return Survey(
        band=f"{scoring.band} % {scoring.scale}", low=100 * band.low, high=100 * band.high, unit=band.unit,
        ceiling=100 * ceiling(bank) / band.unit,
        percents=tuple(float(p) for p in 100 * scores.mean(axis=1) / band.unit),
        accepted=accepted, interval=wilson(accepted, len(scores)),
        seconds_per_candidate=scoring.trials * (cell_steps * CELL_STEP_SECONDS + raw_bytes(bank) * DEFLATE_SECONDS),
    )


def pilot_scores(bank: NcaBankScience) -> npt.NDArray[np.float64]:
    """Return raw scores (candidates, trials); bands of otherwise equal fields share one computation."""
    scoring = bank.complexity.model_copy(update={"band": "0-100", "scale": "raw"})
    return _scores(bank.model_copy(update={"complexity": ComplexityScience(**scoring.model_dump())}))


@cache
def _scores(bank: NcaBankScience) -> npt.NDArray[np.float64]:
    steps = bank.burn_in + bank.complexity.frames * bank.frame_stride
    work = bank.grid.height * bank.grid.width * steps * bank.complexity.trials
    count = max(32, min(CANDIDATES, CELL_STEPS // work))
    search = Search(bank=bank, seed=0, stream="pilot", backend=cast(Backend, native if native.usable() else reference))
    return search.score(np.zeros(count, np.int64), np.arange(count))[1]
