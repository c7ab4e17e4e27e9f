"""Gains over scratch and speed-ups, one row per domain and arm, the baselines first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.best import resolved_best
from analysis.convergence import gain_percent
from analysis.over_seeds import RATIOS, SHARES, over_seeds
from analysis.schema import NATS, TOKENS, Column, detectable, frame_of
from analysis.study import Study, once
from analysis.table import Table

_MEANING = {
    "speedup": "T_own / T_x", "charged_speedup": "T_own / (T_x + T_ppt)",
    "flop_charged_speedup": "T_own / (T_x + upstream FLOPs in PT tokens)", "speedup_at_end": "T_b / T_x",
    "charged_speedup_at_end": "T_b / (T_x + T_ppt)", "token_saving": "1 - (T_x + T_ppt) / T_own",
    "mrs": "(T_own - T_x) / T_ppt", "token_saving_at_end": "1 - (T_x + T_ppt) / T_b",
    "mrs_at_end": "(T_b - T_x) / T_ppt",
}
_WHERE = "empty where a seed is censored or at_first (descriptive; the interval is speedup_low .. speedup_high)"
COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "what is compared"),
    Column("note", "str", "", "the upstream's own note, for instance the raw band"),
    Column("is_control", "bool", "", "a control: a gain that it shares is not a gain from structure"),
    Column("upstream_tokens", "int64", TOKENS, "realised upstream tokens T_ppt"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("seeds_planned", "int64", "", "seeds in the plan"),
    Column("seeds", "int64", "", "seeds scored together with their baseline: losses and gains are over these"),
    Column("diverged", "int64", "", "seeds that diverged: shown, never scored"),
    Column("missing", "int64", "", "seeds that are not scored for another reason"),
    Column("t_b", "float64", TOKENS, "T_b, the baseline's last evaluation (mean over seeds)"),
    Column("loss", "float64", NATS, "loss at T_b, mean over seeds"),
    Column("bits_per_byte", "float64", "bits/byte", "the same per byte of text, mean over seeds"),
    Column("gain_nats", "float64", NATS, "mean gain over scratch at T_b, paired by seed; positive: better"),
    Column("gain_low", "float64", NATS, "lower end of its 95 % paired-t interval; empty below three seeds"),
    Column("gain_high", "float64", NATS, "upper end"),
    Column("gain_sd", "float64", NATS, "standard deviation of the gain over seeds"),
    Column("gain_percent", "float64", "%", "perplexity gain 100 (1 - exp(-gain_nats))"),
    detectable(),
    Column("crossings", "int64", "", "seeds with every evaluation that counts, also one of a file that ends before "
                                     "T_b: what follows is over these"),
    Column("censored", "int64", "", "seeds that never reach the baseline's final loss"),
    Column("at_first", "int64", "", "seeds that reach it by their first evaluation: their speed-ups are lower bounds"),
    Column("flat_tail", "int64", "", "seeds whose baseline reaches its final loss before T_b"),
    Column("speedup_low", "float64", "", "lower end of the 95 % interval of the speed-up (test inversion at T_b)"),
    Column("speedup_high", "float64", "", "upper end; an empty end is open or not defined, see the note"),
    Column("speedup_note", "str", "", "where the interval is open, or why there is none"),
    Column("speedup_bound", "float64", "", "of censored seeds: the geometric mean speed-up is at most this, taken with "
                                           "T_own / (the arm's last evaluation) of each of them"),
    *(Column(n, "float64", "", f"{_MEANING[n]}; geometric mean over seeds, {_WHERE}")
      for n in RATIOS),
    *(Column(n, "float64", "", f"{_MEANING[n]}; mean over seeds, {_WHERE}") for n in SHARES),
)


def _build(study: Study) -> pd.DataFrame:
    cells = [(d, a) for d in study.records.domains for a in study.records.arms if (d, a) in study.cells]
    return frame_of((_row(study, domain, arm) for domain, arm in cells), COLUMNS)


def _row(study: Study, domain: str, arm: str) -> dict[str, Any]:
    first, counts = study.cells[domain, arm][0], study.counts(domain, arm)
    effect, speedup = study.effect(domain, arm), study.speedup(domain, arm)
    losses = list(study.losses.get((domain, arm), {}).values())
    baseline = bool(first["is_baseline"])
    return {
        "domain": domain, "arm": arm, "note": first["note"], "is_control": first["is_control"],
        "upstream_tokens": first["upstream_tokens"], "learned": study.learned(arm),
        "seeds_planned": counts["planned"], "seeds": counts["scored"], "diverged": counts["diverged"],
        "missing": counts["missing"], "loss": float(np.mean(losses)) if losses else math.nan,
        "bits_per_byte": bits_per_byte(study, domain, arm),
        "gain_nats": effect.mean, "gain_low": effect.low, "gain_high": effect.high, "gain_sd": effect.sd,
        "gain_percent": gain_percent(effect.mean), "detectable_nats": effect.detectable,
        "speedup_low": speedup.low, "speedup_high": speedup.high, "speedup_note": "" if baseline else speedup.note,
        "t_b": _t_b(study, domain, arm), **_descriptive(study, domain, arm),
    }


def bits_per_byte(study: Study, domain: str, arm: str) -> float:
    """Return the mean over scored seeds of bits per byte at T_b; NaN where a seed has no evaluation there."""
    t_b, losses = _t_b(study, domain, arm), study.losses.get((domain, arm), {})
    found = [study.bits.get(r["trial"], {}).get(t_b, math.nan) for r in study.cells[domain, arm]
             if int(r["seed"]) in losses]
    return float(np.mean(found)) if found else math.nan


@once
def _t_b(study: Study, domain: str, arm: str) -> float:
    cell = study.cells[domain, arm]
    found = [study.curves[r["baseline"]].last for r in cell if r["baseline"] in study.curves
             and study.trials[r["baseline"]]["status"] == "scored"]
    return float(np.mean(found)) if found else math.nan


def _descriptive(study: Study, domain: str, arm: str) -> dict[str, Any]:
    known = study.known(domain, arm)
    usable = known and not any(row["censored"] or row["at_first"] for row in known)
    means = over_seeds(known)
    return {
        "crossings": len(known), **{n: sum(row[n] for row in known) for n in ("censored", "at_first", "flat_tail")},
        "speedup_bound": means["speedup_bound"],
        **{n: means[n] if usable else math.nan for n in (*RATIOS, *SHARES)},
    }


PLUGIN = Table(title="Convergence by domain and arm", columns=COLUMNS, build=_build,
               best=resolved_best("gain_nats", "gain_low", "gain_high"))
