"""Records -> tidy frames (`schema.py` says which columns). Everything planned is in the frames, with its status.

A loss counts (`scored`) where its stage is committed and did not diverge: rows `end` of annealed ends; under a cosine
schedule (one end, no trunk of its own) also the end stage's `validation` rows (protocol, section 6).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import schema
from analysis.rows import Evaluation, EvaluationReader, StageState, state_of
from sweeps.errors import NewerRecordError, RecordError, UsageError, nearest
from sweeps.language.gate import FOLLOWING, Verdict, verdict_of
from sweeps.language.manifest import PathStep, PlanFile, PlanTrial
from sweeps.store import files
from sweeps.store.layout import Layout

TRAINING_ROLES = ("prepretrain", "trunk", "end")
SCORE_ROLES = ("gate", "evaluate", "twin")


@dataclass(frozen=True, kw_only=True)
class Records:
    """A sweep's records as frames."""

    plan: PlanFile
    simulated: bool
    """Every number was made up by the memory executor."""
    trials: pd.DataFrame
    """`schema.TRIALS`."""
    curves: pd.DataFrame
    """`schema.CURVES`."""
    scores: pd.DataFrame
    """`schema.SCORES`."""
    steps: pd.DataFrame
    """`schema.STEPS`."""

    @cached_property
    def arms(self) -> list[str]:
        """Arms in the plan's order, baselines first."""
        ordered = self.trials.sort_values("is_baseline", ascending=False, kind="stable")
        return list(dict.fromkeys(ordered["arm"]))

    @cached_property
    def baseline_arms(self) -> list[str]:
        """Arms whose trials are baselines (one, unless the sweep has further axes)."""
        return list(dict.fromkeys(self.trials.loc[self.trials["is_baseline"], "arm"]))

    @cached_property
    def domains(self) -> list[str]:
        """Domains in the plan's order."""
        return list(dict.fromkeys(self.trials["domain"]))


def read_plan(root: Path, name: str) -> PlanFile:
    """Return the sweep's plan.

    Raises:
        UsageError: the store has no such sweep, or it was never planned.
        RecordError: plan.json does not read as one.
    """
    layout = Layout(root)
    path = layout.sweep(name).plan
    if not path.is_file():
        known = [p.name for p in layout.sweeps.iterdir()] if layout.sweeps.is_dir() else []
        raise UsageError(f"no plan of sweep {name!r} under {root}; {nearest(name, known)}")
    try:
        return PlanFile.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecordError(f"{path} is damaged ({error}); run the sweep again to write it anew") from error


def load(root: Path, name: str, plan: PlanFile | None = None) -> Records:
    """Read everything that a sweep's tables and figures need. Cost: every evaluation row of the sweep once.

    `plan` is a plan other than the stored one, for instance a part of the grid.
    """
    return _Loader(Layout(root), plan or read_plan(root, name)).records()


def arm_labels(plan: PlanFile) -> dict[str, str]:
    """Return trial id -> arm. Where further axes give one arm several trials of a domain and seed, their values join.

    A sweep over `transfer.embedding_init` has `scratch, embedding_init 0.02` and `scratch, embedding_init 1.0`.
    """
    repeats = Counter((t.arm, t.domain, t.seed) for t in plan.trials)
    if not repeats or max(repeats.values()) == 1:
        return {t.id: t.arm for t in plan.trials}
    seen: dict[str, set[str]] = {}
    for trial in plan.trials:
        for key, value in trial.fields.items():
            seen.setdefault(key, set()).add(json.dumps(value, sort_keys=True, default=str))
    axes = [key for key, values in seen.items() if len(values) > 1]
    return {
        t.id: ", ".join([t.arm, *(f"{key.rpartition('.')[2]} {t.fields[key]}" for key in axes if key in t.fields)])
        for t in plan.trials
    }


class _Loader:
    """Fills the column lists of the four frames, one trial after another."""

    def __init__(self, layout: Layout, plan: PlanFile) -> None:
        self.layout = layout
        self.plan = plan
        self.labels = arm_labels(plan)
        self.stages = {(s.kind, s.fingerprint): s for s in plan.stages}
        self.states: dict[tuple[str, str], StageState] = {}
        self.bands: dict[str, str] = {}
        self.trials: list[dict[str, Any]] = []
        self.curves: dict[str, list[Any]] = {c.name: [] for c in schema.CURVES}
        self.scores: dict[str, list[Any]] = {c.name: [] for c in schema.SCORES}
        self.steps: dict[str, list[Any]] = {c.name: [] for c in schema.STEPS}

    def records(self) -> Records:
        for trial in self.plan.trials:
            self._trial(trial)
        return Records(
            plan=self.plan, simulated=self.layout.simulated.exists(),
            trials=schema.frame_of(self.trials, schema.TRIALS),
            curves=schema.frame_of_columns(self.curves, schema.CURVES),
            scores=schema.frame_of_columns(self.scores, schema.SCORES),
            steps=schema.frame_of_columns(self.steps, schema.STEPS),
        )

    def _state(self, step: PathStep) -> StageState:
        key = (step.kind, step.fingerprint)
        if key not in self.states:
            self.states[key] = state_of(self.layout.stage(*key))
        return self.states[key]

    def _trial(self, trial: PlanTrial) -> None:
        reader, withheld = EvaluationReader(self.layout), self._withheld(trial)
        statuses: list[tuple[PathStep, str]] = []
        drawn: list[Evaluation] = []
        for step in sorted(trial.path, key=lambda s: (s.role == "trunk", -s.tokens)):
            state = self._state(step)
            status, damaged = state.status, 0
            if step.role == "end":
                rows, damaged, state = self._rows(reader, step, state)
                ends, status = self._end(trial, step, rows, state)
                self._add_curve(trial, ends, scored=True)
                drawn = drawn or ([] if ends or _has_trunk(trial) else [r for r in rows if r.kind == "validation"])
            elif step.role == "trunk" and not drawn:  # the furthest trunk point's lineage holds the earlier ones
                rows, damaged, state = self._rows(reader, step, state)
                status, drawn = state.status, [r for r in rows if r.kind == "validation"]
            if status == "absent" and withheld and step.role in FOLLOWING:
                status = "withheld"
            self._add_scores(trial, step, state)
            self._add_step(trial, step, state, status, damaged)
            statuses.append((step, status))
        self._add_curve(trial, drawn, scored=False)
        self._add_trial(trial, statuses)

    def _withheld(self, trial: PlanTrial) -> bool:
        """True where the sweep goes no further than this trial's upstream, because it was not learned."""
        gate = next((step for step in trial.path if step.role == "gate"), None)
        if gate is None or self.plan.gate != "require" or trial.upstream in self.plan.controls:
            return False
        state = self._state(gate)
        return state.status == "done" and state.result is not None and (
            verdict_of(state.result.scores) is not Verdict.LEARNED)

    def _rows(
        self, reader: EvaluationReader, step: PathStep, state: StageState
    ) -> tuple[list[Evaluation], int, StageState]:
        """Return a step's evaluations, its damaged lines and its state: damaged where its lineage cannot be read."""
        try:
            return *reader.stage(self.layout.stage(step.kind, step.fingerprint), state), state
        except NewerRecordError:
            raise
        except RecordError:
            return [], 0, StageState(status="damaged")

    def _end(
        self, trial: PlanTrial, step: PathStep, rows: list[Evaluation], state: StageState
    ) -> tuple[list[Evaluation], str]:
        """Return the evaluations of an end that count, and the step's status."""
        if state.status != "done":
            return [], state.status
        ends = [r for r in rows if r.kind == "end" and (not step.tokens or r.tokens == step.tokens)]
        if not ends or not math.isfinite(ends[-1].loss):
            return [], "unscored"
        counted = ends[-1:]
        if self._is_cosine(trial, step):
            counted = [r for r in rows if r.kind == "validation" and r.tokens < ends[-1].tokens] + counted
        return [r for r in counted if math.isfinite(r.loss)], state.status

    def _is_cosine(self, trial: PlanTrial, step: PathStep) -> bool:
        if sum(s.role == "end" for s in trial.path) != 1:
            return False
        spec = self._spec(step)
        return _schedule(spec) == "cosine" if spec else not _has_trunk(trial)

    def _spec(self, step: PathStep) -> dict[str, Any]:
        try:
            return files.read_json(self.layout.stage(step.kind, step.fingerprint).spec)
        except (FileNotFoundError, ValueError):
            return {}

    def _band(self, trial: PlanTrial) -> str:
        """Return the band of an upstream whose band is no axis of the grid, from its stage's spec."""
        step = next((s for s in trial.path if s.role == "prepretrain"), None)
        if step is None:
            return ""
        if step.fingerprint not in self.bands:
            values = self._spec(step).get("sections", {}).get("upstream", {}).get("values", {})
            complexity = values.get("complexity", {})
            self.bands[step.fingerprint] = str(complexity.get("band", "")) if isinstance(complexity, dict) else ""
        return self.bands[step.fingerprint]

    def _add_curve(self, trial: PlanTrial, rows: list[Evaluation], *, scored: bool) -> None:
        by_tokens = {row.tokens: row for row in rows}
        kept = [by_tokens[t] for t in sorted(by_tokens)]
        for name, value in (
            ("trial", trial.id), ("arm", self.labels[trial.id]), ("domain", trial.domain), ("seed", trial.seed),
            ("upstream_tokens", trial.upstream_tokens), ("scored", scored),
        ):
            self.curves[name].extend([value] * len(kept))
        self.curves["tokens"].extend(r.tokens for r in kept)
        self.curves["loss"].extend(r.loss for r in kept)
        self.curves["bits_per_byte"].extend(r.bits_per_byte for r in kept)

    def _add_scores(self, trial: PlanTrial, step: PathStep, state: StageState) -> None:
        if step.role not in SCORE_ROLES or state.status != "done" or state.result is None:
            return
        for name, value in sorted(state.result.scores.items()):
            for column, item in (("trial", trial.id), ("role", step.role), ("name", name), ("value", value)):
                self.scores[column].append(item)

    def _add_step(
        self, trial: PlanTrial, step: PathStep, state: StageState, status: str, damaged: int
    ) -> None:
        seconds = state.result.seconds if state.result is not None else math.nan
        for column, item in (
            ("trial", trial.id), ("role", step.role), ("kind", step.kind), ("fingerprint", step.fingerprint),
            ("tokens", step.tokens), ("status", status), ("seconds", seconds), ("damaged_lines", damaged),
        ):
            self.steps[column].append(item)

    def _add_trial(self, trial: PlanTrial, statuses: list[tuple[PathStep, str]]) -> None:
        last = max((s.tokens for s, _ in statuses if s.role == "end"), default=0)
        training = [status for step, status in statuses if step.role in TRAINING_ROLES]
        final = next((status for step, status in statuses if step.role == "end" and step.tokens == last), "absent")
        self.trials.append({
            **{name: getattr(trial, name) for name in (
                "upstream", "complexity", "note", "token_budget", "upstream_tokens", "domain", "seed",
                "pretrain_tokens", "baseline",
            )},
            "trial": trial.id, "arm": self.labels[trial.id], "is_baseline": trial.baseline == trial.id,
            "is_control": trial.upstream in self.plan.controls,
            "control_of": self.plan.controls.get(trial.upstream, ""), "status": _trial_status(training, final),
            "band": trial.complexity or self._band(trial),
            "complete": all(status == "done" for step, status in statuses if step.role == "end"),
            **self._flops(trial),
        })

    def _flops(self, trial: PlanTrial) -> Mapping[str, float]:
        upstream = flops = tokens = 0.0
        for step in trial.path:
            stage = self.stages.get((step.kind, step.fingerprint))
            if stage is not None and step.role == "prepretrain":
                upstream += stage.flops
            elif stage is not None and step.role in TRAINING_ROLES:
                flops, tokens = flops + stage.flops, tokens + stage.tokens
        return {"upstream_flops": upstream, "flops_per_token": flops / tokens if flops and tokens else math.nan}


def _has_trunk(trial: PlanTrial) -> bool:
    return any(step.role == "trunk" for step in trial.path)


def _trial_status(training: list[str], final: str) -> str:
    """A trial is scored by its last end alone; a diverged stage anywhere in its training is a result of its own."""
    if "diverged" in training:
        return "diverged"
    return {"done": "scored"}.get(final, final if final in ("unscored", "damaged", "withheld") else "missing")


def _schedule(spec: Mapping[str, Any]) -> str:
    def found() -> Iterator[str]:
        for part in spec.get("sections", {}).values():
            if "schedule" in part.get("values", {}):
                yield str(part["values"]["schedule"])
    return next(found(), "wsd")
