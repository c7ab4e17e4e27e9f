"""Anybody's loss curves as records, so that every table, figure and sentence about a sweep is about them too.

A panel stands where a sweep has a domain and an upstream where it has an arm. Every evaluation of a file counts:
whether it was annealed is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis import schema
from analysis.convergence import compare, gain_percent
from analysis.curve_file import CurveFile, Run, RunKey, read_curves, refuse
from analysis.load import Records
from analysis.over_seeds import over_seeds
from analysis.study import Study
from sweeps.errors import Problem, nearest
from sweeps.language.manifest import PlanFile, PlanTrial

BASELINE = "scratch"
ROWS_VERSION = 1
"""Version of the JSON answer's rows."""
KEYS = ("panel", "upstream", "final_perplexity", "gain_percent", "gain_nats", "speedup", "speedup_at_end",
        "charged_speedup", "charged_speedup_at_end", "token_saving", "mrs", "flat_tail", "censored", "speedup_bound",
        "n_seeds")
"""Of a row of the JSON answer, in this order."""


def study_of(path: Path, baseline: str = BASELINE, upstream_tokens: int | None = None) -> tuple[Study, list[str]]:
    """Return the study of a file of curves, and what a reader should know of the file.

    Args:
        path: CSV or Parquet (`curve_file`).
        baseline: the upstream that the others are compared with, in every panel.
        upstream_tokens: T_ppt of every arm but the baseline for which the file has none.

    Raises:
        UsageError: the file cannot be used; everything that is wrong with it at once.
    """
    read = read_curves(path)
    return Study(records_of(read, baseline, upstream_tokens)), [f"{path}: {note}" for note in read.notes]


def records_of(read: CurveFile, baseline: str, upstream_tokens: int | None) -> Records:
    """Return a file's curves as records.

    Raises:
        SweepFileError: a panel lacks the baseline, or an arm its upstream tokens.
    """
    refuse([*_without_baseline(read, baseline), *_without_tokens(read, baseline, upstream_tokens)], read.path)
    ids = _ids(read.runs)
    charged = {key: _charged(key, run, baseline, upstream_tokens) for key, run in read.runs.items()}
    trials = [
        PlanTrial(id=ids[key], arm=key.upstream, cell=f"{key.upstream} | {key.panel}", upstream=key.upstream,
                  upstream_tokens=charged[key], requested_upstream_tokens=charged[key], domain=key.panel,
                  seed=key.seed, pretrain_tokens=0, baseline=ids.get(key._replace(upstream=baseline), ""), path=())
        for key in read.runs
    ]
    plan = PlanFile(name=read.path.name, question="Loss curves of a file, compared by the protocol's definitions.",
                    protocol="", scale="", trials=tuple(trials), stages=())
    return Records(
        plan=plan, simulated=False, scores=schema.frame_of([], schema.SCORES), steps=schema.frame_of([], schema.STEPS),
        trials=schema.frame_of(map(_trial, trials, read.runs.values()), schema.TRIALS),
        curves=schema.frame_of_columns(_evaluations(trials, read.runs.values()), schema.CURVES),
    )


def _without_baseline(read: CurveFile, baseline: str) -> Iterator[Problem]:
    arms: dict[str, set[str]] = {}
    for key in read.runs:
        arms.setdefault(key.panel, set()).add(key.upstream)
    for panel, known in arms.items():
        if baseline not in known:
            yield Problem(where=str(read.path), key="upstream", given=repr(baseline), message=(
                f"panel {panel!r} has no such baseline; name one that every panel has with --baseline; "
                f"{nearest(baseline, known)}"))
    for key, run in read.runs.items():
        if key.upstream == baseline and max(run.points) == 0:
            yield Problem(where=f"{read.path}:{run.lines[0]}", key="tokens", given="0", message=(
                "is the baseline's last evaluation; at 0 tokens there is nothing to compare"))


def _without_tokens(read: CurveFile, baseline: str, upstream_tokens: int | None) -> Iterator[Problem]:
    lacking = dict.fromkeys(k.upstream for k, run in read.runs.items()
                            if k.upstream != baseline and run.upstream_tokens is None)
    if lacking and upstream_tokens is None:
        yield Problem(where=str(read.path), key="upstream_tokens", given="", message=(
            f"unknown of {', '.join(map(repr, lacking))}; say --upstream-tokens 164M (0: there were none), or give "
            "the file that column"))
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for key, run in read.runs.items():
        charged, line = _charged(key, run, baseline, upstream_tokens), min(run.lines.values())
        other, first = found.setdefault((key.panel, key.upstream), (charged, line))
        if other != charged:
            yield Problem(where=f"{read.path}:{line}", key="upstream_tokens", given=str(charged), message=(
                f"is {other} on line {first}; the seeds of one arm have one number of upstream tokens"))


def _charged(key: RunKey, run: Run, baseline: str, upstream_tokens: int | None) -> int:
    if run.upstream_tokens is not None:
        return run.upstream_tokens
    return 0 if key.upstream == baseline else upstream_tokens or 0


def _ids(keys: Mapping[RunKey, Run]) -> dict[RunKey, str]:
    """Return a readable, unique name for each run, whatever its parts hold."""
    found: dict[RunKey, str] = {}
    taken: set[str] = set()
    for key in keys:
        name = f"{key.upstream}-{key.panel}-s{key.seed}"
        while name in taken:
            name += "'"
        found[key] = name
        taken.add(name)
    return found


def _trial(trial: PlanTrial, run: Run) -> dict[str, Any]:
    names = ("arm", "upstream", "complexity", "note", "token_budget", "upstream_tokens", "domain", "seed",
             "pretrain_tokens", "baseline")
    return {
        **{n: getattr(trial, n) for n in names}, "trial": trial.id, "band": "",
        "is_baseline": trial.baseline == trial.id, "is_control": False, "control_of": "", "upstream_flops": math.nan,
        "flops_per_token": math.nan, "pretrain_lr": math.nan, "upstream_lr": math.nan, "complete": True,
        "status": "diverged" if run.diverged else "scored",
    }


def _evaluations(trials: Sequence[PlanTrial], runs: Iterable[Run]) -> dict[str, list[Any]]:
    """Return the columns of `schema.CURVES`: a file may have millions of rows."""
    columns: dict[str, list[Any]] = {c.name: [] for c in schema.CURVES}
    for trial, run in zip(trials, runs, strict=True):
        tokens = sorted(t for t, loss in run.points.items() if math.isfinite(loss))  # a diverged run's are drawn
        for name, value in (
            ("trial", trial.id), ("arm", trial.arm), ("domain", trial.domain), ("seed", trial.seed),
            ("upstream_tokens", trial.upstream_tokens), ("bits_per_byte", math.nan), ("scored", not run.diverged),
        ):
            columns[name].extend([value] * len(tokens))
        columns["tokens"].extend(tokens)
        columns["loss"].extend(run.points[t] for t in tokens)
    return columns


def rows(study: Study) -> list[dict[str, Any]]:
    """Return one row per domain and arm, the baselines' included, with `KEYS`; None where a value is not defined.

    `n_seeds`: those with a curve and a baseline's. Losses and gains are averaged over those of them that have a loss at
    T_b, speed-ups and the like over all of them (`over_seeds`); `censored` and `flat_tail`: of any. `left_out` names
    the seeds that a row is not about.
    """
    cells = [(d, a) for d in study.records.domains for a in study.records.arms if (d, a) in study.cells]
    return [_row(domain, arm, _measured(study, domain, arm)) for domain, arm in cells]


def left_out(study: Study) -> list[dict[str, Any]]:
    """Return `panel`, `upstream` and `seed` of each run that is in no gain, and `why`."""
    why = {r["trial"]: r["status"] for r in study.trials.values() if r["is_baseline"]}
    why |= dict(zip(study.pairs["trial"].tolist(), study.pairs["status"].tolist(), strict=True))
    return [{"panel": r["domain"], "upstream": r["arm"], "seed": int(r["seed"]), "why": why[trial]}
            for trial, r in study.trials.items() if why[trial] != "scored"]


def _measured(study: Study, domain: str, arm: str) -> Sequence[Mapping[str, Any]]:
    """Return the measures of each seed that has a curve and a baseline's; the baseline is compared with itself."""
    if study.cells[domain, arm][0]["is_baseline"]:
        own = [(study.curves[r["trial"]], r["upstream_tokens"]) for r in study.cells[domain, arm]
               if r["status"] == "scored"]
        return [compare(curve, curve, tokens)._asdict() for curve, tokens in own]
    return study.known(domain, arm)


def _row(domain: str, arm: str, measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    gain = _mean_at_t_b(measured, "gain_nats")
    with np.errstate(over="ignore"):
        perplexity = float(np.exp(_mean_at_t_b(measured, "loss_arm")))
    values = {
        "panel": domain, "upstream": arm, "final_perplexity": perplexity, "gain_percent": gain_percent(gain),
        "gain_nats": gain, **over_seeds(measured), "flat_tail": any(m["flat_tail"] for m in measured),
        "censored": any(m["censored"] for m in measured), "n_seeds": len(measured),
    }
    return {key: _json(values[key]) for key in KEYS}


def _mean_at_t_b(measured: Sequence[Mapping[str, Any]], name: str) -> float:
    values = [m[name] for m in measured if math.isfinite(m[name])]
    return float(np.mean(values)) if values else math.nan


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
