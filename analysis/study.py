"""The comparisons that tables, figures and sentences share, computed once from the records."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from analysis import convergence, schema
from analysis.convergence import Convergence, Curve, Floats
from analysis.inversion import SpeedupInterval, speedup_interval
from analysis.load import Records, load
from analysis.schema import NATS, TOKENS, Column
from analysis.simultaneous import Family, family
from analysis.spread import Spread, spread
from analysis.statistics import MIN_SEEDS, Interval, paired_t, pooled_sd
from analysis.stores import Roots, stores
from analysis.wording import plain
from sweeps.language.gate import GATE, Verdict, verdict_of
from sweeps.language.manifest import PlanFile

_UNITS = {"t_b": TOKENS, "t_own": TOKENS, "t_x": TOKENS, "loss_baseline": NATS, "loss_arm": NATS, "gain_nats": NATS,
          "gain_percent": "%"}
_MEANINGS = {
    "t_b": "T_b, the baseline's last evaluation", "loss_baseline": "L*, the baseline's loss at T_b",
    "loss_arm": "the arm's loss at T_b; at its own last end where it was planned for other PT tokens (pretrain.equal)",
    "gain_nats": "L* minus the arm's loss; positive: the arm is better",
    "gain_percent": "perplexity gain 100 (1 - exp(-gain_nats))",
    "t_own": "the baseline's own first crossing of L*", "t_x": "the arm's first crossing of L*; empty where censored",
    "censored": "the arm never reaches L*", "flat_tail": "the baseline reaches L* before T_b",
    "at_first": "L* is reached at the arm's first evaluation: its speed-ups are lower bounds",
    "speedup": "t_own / t_x (descriptive)", "charged_speedup": "t_own / (t_x + upstream tokens)",
    "flop_charged_speedup": "t_own / (t_x + upstream FLOPs in PT tokens)",
    "token_saving": "1 - (t_x + upstream tokens) / t_own", "mrs": "(t_own - t_x) / upstream tokens",
    "speedup_bound": "t_own / the arm's last evaluation, where censored",
    "speedup_at_end": "t_b / t_x", "charged_speedup_at_end": "t_b / (t_x + upstream tokens)",
    "token_saving_at_end": "1 - (t_x + upstream tokens) / t_b", "mrs_at_end": "(t_b - t_x) / upstream tokens",
    "speedup_bound_at_end": "t_b / the arm's last evaluation, where censored",
}
_BOOLS = ("censored", "flat_tail", "at_first")
AT_T_B = ("t_b", "loss_baseline", "loss_arm", "gain_nats", "gain_percent")
MEASURES = Convergence._fields
_UNKNOWN: Mapping[str, Any] = {n: n not in _BOOLS and math.nan for n in MEASURES}
ENDS_EARLY = "ends before the baseline"
"""Status of a pair whose arm has no loss at T_b, only in files of curves: no gain, but its crossing counts."""

PAIRS = (
    Column("trial", "str", "", "trial id"),
    Column("arm", "str", "", "what is compared"),
    Column("domain", "str", "", "target domain"),
    Column("seed", "int64", "", "seed"),
    Column("upstream_tokens", "int64", TOKENS, "realised upstream tokens"),
    Column("learned", "str", "", "the upstream gate's verdict; empty where it is not measured"),
    Column("status", "str", "", "scored, or why the pair has no gain"),
    Column("crossing_known", "bool", "", "every evaluation of both runs that counts is there"),
    *(Column(n, "bool" if n in _BOOLS else "float64", _UNITS.get(n, ""), _MEANINGS[n]) for n in MEASURES),
)
"""One row per trial that is not a baseline."""

P = ParamSpec("P")
R = TypeVar("R")


def once(make: Callable[Concatenate[Study, P], R]) -> Callable[Concatenate[Study, P], R]:
    """Keep what a function of a study returns: a dozen tables, figures and sentences ask for the same.

    What it is given beside the study must be hashable; what it returns is shared, so nobody may change it.
    """
    @wraps(make)
    def known(study: Study, /, *args: P.args, **kwargs: P.kwargs) -> R:
        key, made = (make, args, *kwargs.items()), study.made
        if key not in made:
            made[key] = make(study, *args, **kwargs)
        found: R = made[key]
        return found

    return known


@dataclass(frozen=True)
class Study:
    """Records and what follows from them."""

    records: Records
    overlay: bool = False
    """Figures show the published results underneath (`published.py`)."""
    root: Path | None = None
    """The store that the records come from (the first of several), of which figures may ask what no table needs; None:
    there is none."""

    @cached_property
    def made(self) -> dict[Any, Any]:
        """What `once` keeps."""
        return {}

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """Trial id -> its scored curve."""
        scored = self.records.curves[self.records.curves["scored"]]
        trials = scored["trial"].astype("category").cat
        codes, names = trials.codes.to_numpy(), trials.categories
        order = np.lexsort((scored["tokens"].to_numpy(), codes))
        first = np.flatnonzero(np.diff(codes[order], prepend=-1))
        tokens, losses = (scored[column].to_numpy()[order] for column in ("tokens", "loss"))
        return dict(zip((str(name) for name in names.to_numpy()[codes[order[first]]]),
                        Curve.cut(tokens, losses, first), strict=True))

    @cached_property
    def spread(self) -> dict[tuple[str, str, bool], Spread]:
        """(domain, arm, scored) -> its losses over seeds, in the plan's order."""
        return spread(self.records)

    @cached_property
    def bits(self) -> dict[str, dict[float, float]]:
        """Trial id -> tokens -> bits per byte, of scored evaluations."""
        scored = self.records.curves[self.records.curves["scored"]]
        found: dict[str, dict[float, float]] = {}
        columns = (scored[name].tolist() for name in ("trial", "tokens", "bits_per_byte"))
        for trial, tokens, bits in zip(*columns, strict=True):
            found.setdefault(trial, {})[tokens] = bits
        return found

    @cached_property
    def trials(self) -> dict[str, dict[str, Any]]:
        """Trial id -> its row of `schema.TRIALS`."""
        return {str(row["trial"]): row for row in schema.rows_of(self.records.trials)}

    @cached_property
    def fields(self) -> dict[str, dict[str, Any]]:
        """Trial id -> its values on further axes, by dotted name."""
        return {trial.id: trial.fields for trial in self.records.plan.trials}

    @cached_property
    def cells(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """(domain, arm) -> its trials, in the order of seeds."""
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in sorted(self.trials.values(), key=lambda r: int(r["seed"])):
            found.setdefault((row["domain"], row["arm"]), []).append(row)
        return found

    @cached_property
    def budgets(self) -> set[str]:
        """Upstream budgets as written, of all arms."""
        return {cell[0]["token_budget"] for cell in self.cells.values()} - {""}

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """`PAIRS`, in the plan's order."""
        return schema.frame_of(
            (self._pair(row) for row in self.trials.values() if not row["is_baseline"]), PAIRS
        )

    def _pair(self, row: dict[str, Any]) -> dict[str, Any]:
        baseline = self.trials.get(row["baseline"])
        status = row["status"]
        if status == "scored" and (baseline is None or baseline["status"] != "scored"):
            status = f"baseline {baseline['status'] if baseline else 'absent'}"
        values, known = _UNKNOWN, False
        if status == "scored" and baseline is not None:
            measured = convergence.compare(
                self.curves[baseline["trial"]], self.curves[row["trial"]], row["upstream_tokens"],
                row["upstream_flops"] / row["flops_per_token"],
                own_end=row["pretrain_tokens"] != baseline["pretrain_tokens"],
            )
            known = bool(row["complete"] and baseline["complete"])
            found = measured._asdict()
            values = found if known else {**_UNKNOWN, **{n: found[n] for n in AT_T_B}}
            status = status if math.isfinite(measured.gain_nats) else ENDS_EARLY
        names = ("trial", "arm", "domain", "seed", "upstream_tokens")
        learned = self.verdicts.get(row["arm"], {}).get(int(row["seed"]), "")
        return {**{n: row[n] for n in names}, "learned": str(learned), "status": status,
                "crossing_known": known, **values}

    @cached_property
    def scored_rows(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """(domain, arm) -> its scored pairs, rows of `PAIRS`, in the order of seeds."""
        return self._pairs_that_are("scored")

    @cached_property
    def _crossing_rows(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        return self._pairs_that_are("scored", ENDS_EARLY)

    def _pairs_that_are(self, *statuses: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in self._pair_rows:
            if row["status"] in statuses:
                found.setdefault((row["domain"], row["arm"]), []).append(row)
        return found

    @cached_property
    def _pair_rows(self) -> list[dict[str, Any]]:
        return sorted(schema.rows_of(self.pairs), key=lambda r: int(r["seed"]))

    @cached_property
    def losses(self) -> dict[tuple[str, str], dict[int, float]]:
        """(domain, arm) -> seed -> loss at T_b, nats; baselines included."""
        found: dict[tuple[str, str], dict[int, float]] = {}
        for row in self.trials.values():
            if row["is_baseline"] and row["status"] == "scored":
                cell = found.setdefault((row["domain"], row["arm"]), {})
                cell[int(row["seed"])] = float(self.curves[row["trial"]].losses[-1])
        for key, rows in self.scored_rows.items():
            found[key] = {int(row["seed"]): float(row["loss_arm"]) for row in rows}
        return found

    @once
    def gains(self, domain: str, arm: str, over: str = "") -> dict[int, float]:
        """Return seed -> gain in nats at T_b, over the arm's own baseline or over another arm."""
        if not over:
            return {int(row["seed"]): float(row["gain_nats"]) for row in self.scored_rows.get((domain, arm), [])}
        ours, theirs = self.losses.get((domain, arm), {}), self.losses.get((domain, over), {})
        return {seed: theirs[seed] - ours[seed] for seed in sorted(ours.keys() & theirs.keys())}

    @once
    def effect(self, domain: str, arm: str, over: str = "") -> Interval:
        """Return the gain over the baseline (or another arm) with its paired-t interval."""
        return paired_t(list(self.gains(domain, arm, over).values()))

    @once
    def speedup(self, domain: str, arm: str) -> SpeedupInterval:
        """Return the test-inversion interval of the speed-up; needs every evaluation that counts."""
        known = self.known(domain, arm)
        return speedup_interval(
            [row["loss_baseline"] for row in known], [row["t_b"] for row in known],
            [self.curves[row["trial"]] for row in known])

    @once
    def known(self, domain: str, arm: str) -> list[dict[str, Any]]:
        """Return the pairs of a cell that have every evaluation that counts, also those that end before T_b.

        An arm that ends before it reaches L* is censored, and a censored seed is never dropped.
        """
        return [row for row in self._crossing_rows.get((domain, arm), []) if row["crossing_known"]]

    @once
    def annealed(self, domain: str, arm: str) -> dict[int, Curve]:
        """Return seed -> annealed ends of a cell's scored trials; empty where its ends are points of one cosine.

        Curves of a file do not say whether theirs are annealed.
        """
        trunks = self._trunks
        return {int(row["seed"]): self.curves[row["trial"]] for row in self.cells.get((domain, arm), [])
                if row["status"] == "scored" and row["complete"] and row["trial"] in trunks}

    @cached_property
    def _trunks(self) -> set[str]:
        return {trial.id for trial in self.records.plan.trials if any(step.role == "trunk" for step in trial.path)}

    def table(self, domain: str, arms: Sequence[str], over: str, seeds: Sequence[int]) -> tuple[Floats, Floats]:
        """Return losses at T_b of a reference, (n,), and of arms, (K, n), on these seeds, nats."""
        losses = np.array([[self.losses[domain, arm][seed] for seed in seeds] for arm in (over, *arms)])
        return losses[0], losses[1:]

    @once
    def bands(self, domain: str) -> dict[str, list[str]]:
        """Return baseline arm -> the domain's arms with a complexity band that are compared with it, no controls."""
        found: dict[str, list[str]] = {}
        for arm in self.records.arms:
            row = next(iter(self.cells.get((domain, arm), [])), None)
            if row is not None and row["complexity"] and not row["is_control"] and row["baseline"] in self.trials:
                found.setdefault(str(self.trials[row["baseline"]]["arm"]), []).append(arm)
        return found

    def family(self, domain: str, arms: Sequence[str], over: str) -> tuple[Family | None, list[str], list[int]]:
        """Return simultaneous intervals of arms over one reference, the arms that are in them, and their common seeds.

        An arm without a scored seed is left out; so is one that lacks a seed of the reference (it diverged, say), where
        it would leave the others fewer than three.
        """
        reference = self.losses.get((domain, over), {})
        kept = [arm for arm in arms if self.losses.get((domain, arm)) and arm != over]
        seeds = self._common(domain, kept, reference)
        if len(seeds) < MIN_SEEDS <= len(reference):
            full = [arm for arm in kept if reference.keys() <= self.losses[domain, arm].keys()]
            kept, seeds = (full, sorted(reference)) if full else (kept, seeds)
        if not kept or not seeds:
            return None, kept, seeds
        return self._family(domain, tuple(kept), over, tuple(seeds)), kept, seeds

    @once
    def _family(self, domain: str, arms: Sequence[str], over: str, seeds: Sequence[int]) -> Family | None:
        return family(*self.table(domain, arms, over, seeds))

    def _common(self, domain: str, arms: Sequence[str], reference: dict[int, float]) -> list[int]:
        return sorted(set(reference).intersection(*(self.losses[domain, arm] for arm in arms)))

    @cached_property
    def reference(self) -> str:
        """What sentences call that which arms are compared with: its name where there is one, else scratch."""
        names = self.records.baseline_arms
        return plain(names[0]) if len(names) == 1 else "scratch"

    @once
    def baseline_of(self, domain: str, arm: str) -> str:
        """Return the arm that an arm of a domain is compared with; empty where the plan has none."""
        row = self.trials.get(self.cells[domain, arm][0]["baseline"])
        return str(row["arm"]) if row else ""

    @once
    def treated(self, domain: str) -> list[str]:
        """Return the domain's arms that are no baseline, in the plan's order."""
        return [a for a in self.records.arms if (c := self.cells.get((domain, a))) and not c[0]["is_baseline"]]

    @once
    def domain_sd(self, domain: str) -> float:
        """Return the sd of paired gains over seeds, pooled over the domain's arms, nats."""
        return pooled_sd([list(self.gains(domain, arm).values()) for arm in self.treated(domain)])

    @once
    def counts(self, domain: str, arm: str) -> dict[str, int]:
        """Return planned, scored, diverged, withheld and missing seeds of a cell.

        A seed without its baseline is missing, and so is a withheld one.
        """
        cell = self.cells.get((domain, arm), [])
        scored = len(self.losses.get((domain, arm), {}))
        diverged = sum(row["status"] == "diverged" for row in cell)
        withheld = sum(row["status"] == "withheld" for row in cell)
        return {"planned": len(cell), "scored": scored, "diverged": diverged, "withheld": withheld,
                "missing": len(cell) - scored - diverged}

    @cached_property
    def gates(self) -> dict[tuple[str, int], dict[str, float]]:
        """(arm, seed) -> the scores of its upstream gate, by the task's names; in the order of arms."""
        scores = self.records.scores
        gate = scores[scores["role"] == "gate"]
        found: dict[tuple[str, int], dict[str, float]] = {}
        for trial, name, value in zip(gate["trial"], gate["name"], gate["value"], strict=True):
            row = self.trials[str(trial)]
            found.setdefault((row["arm"], int(row["seed"])), {})[str(name).removeprefix(f"{GATE}.")] = float(value)
        order = {arm: i for i, arm in enumerate(self.records.arms)}
        return dict(sorted(found.items(), key=lambda item: (order[item[0][0]], item[0][1])))

    @cached_property
    def verdicts(self) -> dict[str, dict[int, Verdict]]:
        """Arm -> seed -> what the upstream gate says."""
        found: dict[str, dict[int, Verdict]] = {}
        for (arm, seed), scores in self.gates.items():
            verdict = verdict_of({f"{GATE}.{name}": value for name, value in scores.items()})
            if verdict is not None:
                found.setdefault(arm, {})[seed] = verdict
        return found

    def learned(self, arm: str) -> str:
        """Return `2/3` where two of three measured seeds have learned the arm's upstream; empty where none is."""
        verdicts = self.verdicts.get(arm, {})
        return f"{_learned(verdicts)}/{len(verdicts)}" if verdicts else ""

    def doubtful(self, arm: str) -> bool:
        """True where the arm's upstream was not learned, or nobody can tell, in a measured seed."""
        verdicts = self.verdicts.get(arm, {})
        return _learned(verdicts) < len(verdicts)

    def named(self, arm: str) -> str:
        """Return the arm's name, with a warning where its upstream is `doubtful`: for sentences about results."""
        return f"{arm} (upstream learned in {self.learned(arm)})" if self.doubtful(arm) else arm


def _learned(verdicts: dict[int, Verdict]) -> int:
    return sum(verdict is Verdict.LEARNED for verdict in verdicts.values())


def study(roots: Roots, name: str, plan: PlanFile | None = None) -> Study:
    """Return the study of a sweep's records, in one store or several; `plan`: of another plan than the stored one."""
    return Study(load(roots, name, plan), root=stores(roots).root)
