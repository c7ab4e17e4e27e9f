"""Records -> tidy frames (`schema.py` says which columns). Everything planned is in the frames, with its status.

A loss counts (`scored`) where its stage is committed and did not diverge: rows `end` of annealed ends; under a cosine
schedule (one end, no trunk of its own) also the end stage's `validation` rows (protocol, section 6).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import schema
from analysis.item_records import IN_SHORT, STATED, sound
from analysis.kept import ABSENT, Kept, Looked, look
from analysis.rows import Evaluation, EvaluationReader, StageState, state_of
from analysis.stores import Roots, Stores, stores
from analysis.stores import read_plan as read_plan
from sweeps.errors import NewerRecordError, RecordError
from sweeps.language.gate import FOLLOWING, Verdict, verdict_of
from sweeps.language.ladder import DOWNSTREAM, DOWNSTREAM_TWIN, DOWNSTREAM_UNTUNED
from sweeps.language.manifest import PathStep, PlanFile, PlanTrial
from sweeps.store import files
from sweeps.store.layout import StageFolder

TRAINING_ROLES = ("prepretrain", "trunk", "end")
_SECTIONS = ("optim", "upstream")
"""Of a stage's spec: what the frames read."""
ITEM_ROLES = (DOWNSTREAM, DOWNSTREAM_TWIN, DOWNSTREAM_UNTUNED)
SCORE_ROLES = ("gate", "evaluate", "twin", *ITEM_ROLES)


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
    items: Mapping[tuple[str, str, str], Path | None] = field(default_factory=dict)
    """(trial, role, downstream task) -> file of its scores item by item; None where the result states one that is lost.
    """

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


def load(roots: Roots, name: str, plan: PlanFile | None = None) -> Records:
    """Read everything that a sweep's tables and figures need. Cost: every evaluation row of the sweep once.

    Args:
        roots: the store, or several (`stores.py`).
        name: the sweep.
        plan: another plan than the stored one, for instance a part of the grid.
    """
    return _Loader(stores(roots), plan or read_plan(roots, name)).records()


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

    def __init__(self, layout: Stores, plan: PlanFile) -> None:
        self.layout = layout
        self.plan = plan
        self.labels = arm_labels(plan)
        self.stages = {(s.kind, s.fingerprint): s for s in plan.stages}
        self.folders: dict[tuple[str, str], StageFolder] = {}
        self.states: dict[tuple[str, str], tuple[StageState, Looked]] = {}
        self.specs: dict[str, tuple[dict[str, Any], Looked]] = {}
        self.looked: dict[str, Looked] = {}
        """Trial -> what was looked at to make its rows, and how it was before that."""
        self.seen: Looked = {}
        """Of the trial that is being read."""
        self.trials: list[dict[str, Any]] = []
        self.curves: dict[str, list[Any]] = {c.name: [] for c in schema.CURVES}
        self.scores: dict[str, list[Any]] = {c.name: [] for c in schema.SCORES}
        self.steps: dict[str, list[Any]] = {c.name: [] for c in schema.STEPS}
        self.items: dict[str, list[Any]] = {c.name: [] for c in schema.ITEMS}

    def records(self) -> Records:
        plan = self.plan.model_dump_json()
        folder = self.layout.sweep(self.plan.name)
        kept = Kept(self.layout.root, None if self.layout.others else folder.frames, plan)
        for trial in self.plan.trials:
            if trial.id not in kept:
                self.seen = self.looked[trial.id] = {}
                self._trial(trial)
        frames = kept.with_new({
            "trials": schema.frame_of(self.trials, schema.TRIALS),
            **{name: schema.frame_of_columns(getattr(self, name), schema.FRAMES[name])
               for name in ("curves", "scores", "steps", "items")},
        }, [trial.id for trial in self.plan.trials])
        if folder.plan.is_file() and folder.plan.read_bytes() == plan.encode():  # not of a part of it
            kept.save(frames, self.looked, read=len(self.curves["loss"]))
        *names, items = (frames[name] for name in schema.FRAMES)
        trials, curves, scores, steps = names
        return Records(
            plan=self.plan, simulated=self.layout.simulated.exists(), trials=trials, curves=curves, scores=scores,
            steps=steps, items={(trial, role, task): self.layout.root / path if path else None
                                for trial, role, task, path in zip(
                                    *(items[c.name].tolist() for c in schema.ITEMS), strict=True)})

    def _state(self, step: PathStep) -> StageState:
        key = (step.kind, step.fingerprint)
        if key not in self.states:
            stage, looked = self._folder(step), Looked()
            look(looked, stage.result)
            if looked[str(stage.result)] == ABSENT:
                look(looked, stage.attempts)
            state = state_of(stage)
            state = replace(state, items=self._items(stage, state, looked), other_copies=self.layout.copies(stage))
            self.states[key] = state, looked
        state, looked = self.states[key]
        self.seen.update(looked)
        return state

    def _items(self, stage: StageFolder, state: StageState, looked: Looked) -> Path | None:
        """Return the file with the items that a result states; None: it states none, or it is lost."""
        if state.result is None or STATED not in state.result.files:
            return None
        attempt = stage.attempt(state.result.attempt)
        look(looked, attempt.path / STATED, attempt.path / IN_SHORT)
        return sound(attempt, state.result.files)

    def _folder(self, step: PathStep) -> StageFolder:
        """Return a step's folder; kept, since a large sweep would spend a third of the time on making paths."""
        key = (step.kind, step.fingerprint)
        if key not in self.folders:
            self.folders[key] = self.layout.stage(*key)
        return self.folders[key]

    def _trial(self, trial: PlanTrial) -> None:
        reader = EvaluationReader(frozenset(s.fingerprint for s in trial.path), self.seen)
        withheld = self._withheld(trial)
        read: list[tuple[PathStep, StageState, str]] = []
        drawn: list[Evaluation] = []
        for step in sorted(trial.path, key=lambda s: (s.role == "trunk", -s.tokens)):
            state = self._state(step)
            status = state.status
            if step.role == "end":
                rows, state = self._rows(reader, step, state)
                ends, status = self._end(trial, step, rows, state)
                self._add_curve(trial, ends, scored=True)
                drawn = drawn or ([] if ends or _has_trunk(trial) else [r for r in rows if r.kind == "validation"])
            elif step.role == "trunk" and not drawn:  # the furthest trunk point's lineage holds the earlier ones
                rows, state = self._rows(reader, step, state)
                status, drawn = state.status, [r for r in rows if r.kind == "validation"]
            if status == "absent" and withheld and step.role in FOLLOWING:
                status = "withheld"
            self._add_scores(trial, step, state)
            read.append((step, state, status))
        for step, state, status in read:
            self._add_step(trial, step, state, status, reader.left_out.pop(step.fingerprint, Counter()))
        self._add_curve(trial, drawn, scored=False)
        self._add_trial(trial, [(step, status) for step, _, status in read])

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
    ) -> tuple[list[Evaluation], StageState]:
        """Return a step's evaluations and its state: damaged where its lineage cannot be read."""
        try:
            return reader.stage(self._folder(step), state), state
        except NewerRecordError:
            raise
        except RecordError:
            return [], StageState(status="damaged")

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
        if step.fingerprint not in self.specs:
            path, looked = self._folder(step).spec, Looked()
            look(looked, path)
            try:
                found = files.read_json(path)
            except (FileNotFoundError, ValueError):
                found = {}
            self.specs[step.fingerprint] = {name: part.get("values", {}) for name, part in
                                            found.get("sections", {}).items() if name in _SECTIONS}, looked
        spec, looked = self.specs[step.fingerprint]
        self.seen.update(looked)
        return spec

    def _upstream(self, trial: PlanTrial) -> dict[str, Any]:
        """Return the band of an upstream whose band is no axis of the grid, and its learning rate."""
        step = next((s for s in trial.path if s.role == "prepretrain"), None)
        spec = self._spec(step) if step is not None else {}
        complexity = spec.get("upstream", {}).get("complexity", {})
        band = str(complexity.get("band", "")) if isinstance(complexity, dict) else ""
        return {"band": trial.complexity or band, "upstream_lr": _rate(spec)}

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
        if step.role in ITEM_ROLES and STATED in state.result.files:
            path, root = state.items, self.layout.root
            below = "" if path is None else str(path.relative_to(root) if path.is_relative_to(root) else path)
            for task in sorted({name.partition(".")[0] for name in state.result.scores}):
                for column, text in (("trial", trial.id), ("role", step.role), ("task", task), ("path", below)):
                    self.items[column].append(text)
        for name, value in sorted(state.result.scores.items()):
            for column, of in (("trial", trial.id), ("role", step.role), ("name", name), ("value", value)):
                self.scores[column].append(of)

    def _add_step(
        self, trial: PlanTrial, step: PathStep, state: StageState, status: str, left_out: Mapping[str, int]
    ) -> None:
        seconds = state.result.seconds if state.result is not None else math.nan
        scores = state.result.scores if state.result is not None else {}
        for column, item in (
            ("trial", trial.id), ("role", step.role), ("kind", step.kind), ("fingerprint", step.fingerprint),
            ("tokens", step.tokens), ("status", status), ("seconds", seconds),
            *((c.name, left_out.get(c.name, 0)) for c in schema.LEFT_OUT[:-2]), ("lost_items", state.lost_items),
            ("other_copies", state.other_copies),
            *((c.name, scores.get(c.name, math.nan)) for c in schema.TRAINED),
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
            **self._upstream(trial), "pretrain_lr": self._last_rate(trial),
            "complete": all(status == "done" for step, status in statuses if step.role == "end"),
            **self._flops(trial),
        })

    def _last_rate(self, trial: PlanTrial) -> float:
        ends = [step for step in trial.path if step.role == "end"]
        return _rate(self._spec(max(ends, key=lambda s: s.tokens))) if ends else math.nan

    def _flops(self, trial: PlanTrial) -> Mapping[str, float]:
        upstream, flops, tokens = trial.brought_flops, 0.0, 0.0
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
    return next((str(part["schedule"]) for part in spec.values() if "schedule" in part), "wsd")


def _rate(spec: Mapping[str, Any]) -> float:
    """Return the peak learning rate of a training stage's spec; NaN where it states none."""
    return float(spec.get("optim", {}).get("lr", math.nan))
