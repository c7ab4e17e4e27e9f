"""What in a store may be deleted: found and weighed here, deleted by `delete` and by nothing else.

Never listed: what a living controller or an open submission may be using, what a sweep's plan still needs to run, the
choices that a comparison rests on and what they were folded from, and attempts whose rows another attempt continues.
Everything else is made again by running its sweep; what that would cost is taken from the records. Looks at every file
of the store: 10,000 stages take about six seconds.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from orchestrator.difference import read_spec
from orchestrator.promotion import outranked
from orchestrator.targets import Plan, read_plan
from orchestrator.watch import controller, open_stages
from orchestrator.withheld import withheld
from sweeps.errors import RecordError, UsageError
from sweeps.language.asha import SELECT
from sweeps.store import claims
from sweeps.store.files import read_json, sync_folder
from sweeps.store.integrity import DAMAGED, MANIFEST, damage_of_checkpoint, how_to_remake, removed_note
from sweeps.store.layout import AttemptFolder, Layout, StageFolder, SweepFolder
from sweeps.store.ledger import State, fold, read_events
from sweeps.store.records import Result, read_parent, read_result


class Reason(StrEnum):
    """Why something may be deleted."""

    SUPERSEDED = "older checkpoints, attempts that completed nothing"
    DAMAGED = "checkpoints set aside as damaged"
    ORPHAN = "stages that no sweep's last plan names (--orphans)"
    LEFTOVER = "leftovers of ended jobs and dead programs"
    FINAL = "final checkpoints of finished sweeps (--checkpoints)"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One file or folder that may be deleted."""

    path: Path
    reason: Reason
    what: str
    """For people."""
    size_bytes: int
    newest: float
    """When something in it was changed last, seconds since the epoch."""
    remake_seconds: float = 0.0
    """Recorded seconds that making it again would cost; 0: nobody needs to."""
    remake_tokens: int = 0
    """Training tokens that making it again would cost."""


@dataclass(frozen=True, kw_only=True)
class Use:
    """Who uses the store."""

    plans: Mapping[str, Plan]
    states: Mapping[str, State]
    stamps: Mapping[str, int]
    """Sweep -> time of its plan's last change, ns."""

    @property
    def named(self) -> set[str]:
        """Stages that a plan names, and the choices that one rests on."""
        return {key for plan in self.plans.values() for key in (*plan.stages, *(c["select"] for c in plan.searched))}

    @property
    def busy(self) -> set[str]:
        """Stages of submissions that have not ended, whether or not their controller lives."""
        return {key for state in self.states.values() for key in open_stages(state)}

    @property
    def alive(self) -> set[str]:
        """Sweeps with a living controller (or one on another host that may live)."""
        return {name for name, state in self.states.items() if controller(state)}


def read_use(layout: Layout) -> Use:
    """Return who uses the store.

    Raises:
        RecordError: a plan cannot be read, so that nobody can tell what it needs.
    """
    folders = sorted(p for p in layout.sweeps.iterdir() if p.is_dir()) if layout.sweeps.is_dir() else []
    return Use(plans={f.name: read_plan(layout, f.name) for f in folders}, stamps=plan_stamps(layout),
               states={f.name: fold(read_events(SweepFolder(f))) for f in folders})


def plan_stamps(layout: Layout) -> dict[str, int]:
    """Return sweep -> time of its plan's last change, ns; equal dictionaries: no sweep has begun in between."""
    return {p.parent.name: p.stat().st_mtime_ns for p in layout.sweeps.glob("*/plan.json")}


class Survey:
    """Looks through the stages of a store."""

    def __init__(self, layout: Layout) -> None:
        """Read plans, ledgers and results."""
        self.layout = layout
        self.use = read_use(layout)
        self._busy, self._alive = self.use.busy, self.use.alive
        self._stages = [StageFolder(p) for p in sorted(layout.stages.glob("*/*")) if p.is_dir()]
        self._named = self._with_folded(self.use.named)
        self._results = {s.fingerprint: self._result(s) for s in self._stages}
        self._protected: dict[str, bool] = {}
        self._continued = self._lineage()
        lost = {name: outranked(layout, plan) for name, plan in self.use.plans.items()}
        self._lost = {key for keys in lost.values() for key in keys
                      if all(key in lost[name] for name, plan in self.use.plans.items() if key in plan.stages)}
        """Stages that no search goes on with, and nobody else wants."""
        self._unfinished = {key for plan in self.use.plans.values() if not self._over(plan) for key in plan.stages}

    def items(self) -> Iterator[Item]:
        """Yield what may be deleted among the stages."""
        for stage in self._stages:
            if self.protected(stage):
                continue
            if stage.fingerprint not in self._named:
                if not self._is_continued(stage) and not self._alive:
                    yield self._orphan(stage)
                continue
            yield from self._set_aside(stage)
            result = self._results[stage.fingerprint]
            if result is not None:
                yield from self._superseded(stage, result)
            elif stage.fingerprint in self._lost and not self._is_continued(stage):
                label = self._label(stage)
                yield from (item(a.path, Reason.SUPERSEDED, f"{label}: attempt {a.number}, of a candidate that lost")
                            for a in _attempts(stage))

    def protected(self, stage: StageFolder) -> bool:
        """True where a job may be using the stage, or nothing can tell."""
        if stage.fingerprint not in self._protected:
            self._protected[stage.fingerprint] = stage.fingerprint in self._busy or self._claimed(stage)
        return self._protected[stage.fingerprint]

    def _claimed(self, stage: StageFolder) -> bool:
        try:
            held = claims.holder(stage)
        except RecordError:
            return True
        return held is not None and (held.sweep == claims.NOBODY or held.sweep in self._alive)

    def codes(self) -> set[str]:
        """Return the copies of the code that completed the stages (`orchestrator.snapshot`)."""
        found = ((stage, self._results[stage.fingerprint]) for stage in self._stages)
        return {_code(stage.attempt(result.attempt)) for stage, result in found if result is not None}

    # -- facts -----------------------------------------------------------------------------------------------------

    def _with_folded(self, named: set[str]) -> set[str]:
        """Return the named stages and what the choices among them were folded from, whatever their search plans now.

        Raises:
            RecordError: nobody can tell what a choice was folded from.
        """
        made = [s for s in self._stages if s.kind == SELECT and s.fingerprint in named and s.result.exists()]
        specs = {stage: read_spec(stage) for stage in made}
        if damaged := next((stage for stage, spec in specs.items() if spec is None), None):
            raise RecordError(f"{damaged.spec} is missing or damaged; {how_to_remake(damaged)}")
        return named | {i["fingerprint"] for spec in specs.values() if spec for i in spec["inputs"]}

    def _result(self, stage: StageFolder) -> Result | None:
        try:
            return read_result(stage)
        except RecordError:  # for `why` to explain and a person to decide
            return None

    def _over(self, plan: Plan) -> bool:
        """True where every trial of a plan has come to its end."""
        found = {key: self._results.get(key) for key in plan.stages}
        barred = {*withheld(self.layout, plan), *outranked(self.layout, plan)}
        return bool(plan.stages) and all(
            all(found.get(s["fingerprint"]) or s["fingerprint"] in barred for s in t["path"])
            or any((r := found.get(s["fingerprint"])) is not None and r.status == "diverged" for s in t["path"])
            for t in plan.trials.values()
        )

    def _lineage(self) -> set[tuple[str, int]]:
        """Return (fingerprint, attempt) of every attempt whose rows are part of another one's that counts.

        Those count that completed a stage of a plan, and those that such a stage may still go on from.
        """
        parents: dict[tuple[str, int], tuple[str, int]] = {}
        counting: list[tuple[str, int]] = []
        for stage in self._stages:
            key, result = stage.fingerprint, self._results[stage.fingerprint]
            for attempt in _attempts(stage):
                if (parent := _parent(attempt)) is not None:
                    parents[key, attempt.number] = parent
                over = result is not None and attempt.number != result.attempt
                if (key in self._named and not over) or self.protected(stage):
                    counting.append((key, attempt.number))
        found: set[tuple[str, int]] = set()
        while counting:
            parent = parents.get(counting.pop())
            if parent is not None and parent not in found:
                found.add(parent)
                counting.append(parent)
        return found

    def _is_continued(self, stage: StageFolder) -> bool:
        return any((stage.fingerprint, n.number) in self._continued for n in _attempts(stage))

    # -- items -----------------------------------------------------------------------------------------------------

    def _orphan(self, stage: StageFolder) -> Item:
        result = self._results[stage.fingerprint]
        made = f", complete, {_maker(stage)}" if result else ", not complete"
        return item(stage.path, Reason.ORPHAN, f"{stage.kind}/{stage.fingerprint[:12]}{made}",
                    seconds=result.seconds if result else 0.0, tokens=_tokens(stage) if result else 0)

    def _set_aside(self, stage: StageFolder) -> Iterator[Item]:
        for path in sorted(stage.attempts.glob(f"*/checkpoints/*{DAMAGED}*")):
            yield item(path, Reason.DAMAGED, f"{self._label(stage)}: {path.name}")

    def _superseded(self, stage: StageFolder, result: Result) -> Iterator[Item]:
        label = self._label(stage)
        whole = stage.attempt(result.attempt)
        final = _final(whole, result)
        if final is not None and damage_of_checkpoint(final, thorough=False):
            return  # the others may be all that is left of this run
        for attempt in _attempts(stage):
            what = f"{label}: attempt {attempt.number}"
            if attempt.number != result.attempt and (stage.fingerprint, attempt.number) not in self._continued:
                yield item(attempt.path, Reason.SUPERSEDED, what)
                continue
            if attempt.work.exists():  # killed between the result and its removal
                yield item(attempt.work, Reason.LEFTOVER, f"{what}, work files")
            yield from (item(p, Reason.SUPERSEDED, f"{what} at {int(p.name):,} tokens")
                        for p in _checkpoints(attempt) if p != final)
        trained = _tokens(stage)  # 0 of texts and corpora: what their notes name is gone, and nobody goes on from them
        if final is not None and trained and stage.fingerprint not in self._unfinished and not self._alive:
            yield item(final, Reason.FINAL, f"{label}: at {int(final.name):,} tokens", seconds=result.seconds,
                       tokens=trained)

    def _label(self, stage: StageFolder) -> str:
        plans = self.use.plans.values()
        labels = (str(p.stages[stage.fingerprint]["label"]) for p in plans if stage.fingerprint in p.stages)
        return next(labels, f"{stage.kind} {stage.fingerprint[:12]}")


def item(path: Path, reason: Reason, what: str, *, seconds: float = 0.0, tokens: int = 0) -> Item:
    """Return a file or folder as an item, weighed."""
    size, newest = _weigh(path)
    return Item(path=path, reason=reason, what=what, size_bytes=size, newest=newest, remake_seconds=seconds,
                remake_tokens=tokens)


def _weigh(path: Path) -> tuple[int, float]:
    """Return the bytes below a path, and when something there was changed last."""
    if not path.is_dir() or path.is_symlink():
        stat = path.lstat()
        return stat.st_size, stat.st_mtime
    size, newest = 0, path.stat().st_mtime
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                stat = (Path(folder) / name).lstat()
            except FileNotFoundError:
                continue
            size, newest = size + stat.st_size, max(newest, stat.st_mtime)
    return size, newest


def _attempts(stage: StageFolder) -> list[AttemptFolder]:
    if not stage.attempts.is_dir():
        return []
    return [stage.attempt(n) for n in sorted(int(p.name) for p in stage.attempts.iterdir() if p.name.isdecimal())]


def _checkpoints(attempt: AttemptFolder) -> list[Path]:
    if not attempt.checkpoints.is_dir():
        return []
    return sorted(p for p in attempt.checkpoints.iterdir() if p.name.isdecimal() and p.is_dir())


def _final(attempt: AttemptFolder, result: Result) -> Path | None:
    """Return the final checkpoint of the attempt that completed a stage, where it has one and has it still."""
    stated: Mapping[str, Any] = result.checkpoint
    if stated:
        folder = attempt.checkpoint(int(stated["tokens"]))
        return None if removed_note(folder).exists() else folder
    return max((p for p in _checkpoints(attempt) if (p / MANIFEST).exists()), default=None)


def _parent(attempt: AttemptFolder) -> tuple[str, int] | None:
    try:
        found = read_parent(attempt)
    except (ValueError, KeyError, TypeError, RecordError):  # damaged: what it continued cannot be known
        return None
    return (found.fingerprint, found.attempt) if found else None


def _code(attempt: AttemptFolder) -> str:
    try:
        return str(read_json(attempt.execution)["versions"]["code"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecordError):  # an older record, or a damaged one
        return ""


def _maker(stage: StageFolder) -> str:
    try:
        held = claims.holder(stage)
    except RecordError:
        held = None
    return f"made by sweep {held.sweep}" if held and held.sweep else "maker unknown"


def _tokens(stage: StageFolder) -> int:
    """Return the training tokens that a stage consumed itself, as far as its spec says."""
    try:
        values = read_json(stage.spec)["sections"]["segment"]["values"]
        return int(values["end_tokens"]) - int(values["decay_from"] or 0)
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecordError):
        return 0


def delete(layout: Layout, survey: Survey, found: Iterable[Item]) -> Iterator[Item]:
    """Delete items; yield each that is gone.

    Raises:
        UsageError: a sweep began meanwhile, whose plan may need what was listed; nothing more is deleted.
    """
    for each in found:
        if each.reason in (Reason.ORPHAN, Reason.FINAL) and plan_stamps(layout) != survey.use.stamps:
            raise UsageError("a sweep began while this was going on, and may need what was listed; what is gone was "
                             "not needed. Run the same command again to look anew")
        remove(each)
        yield each


def remove(each: Item) -> None:
    """Delete one item: first what makes it count (result, manifests), so that half of it is never taken for whole."""
    path = each.path
    if each.reason is Reason.ORPHAN:
        (path / "result.json").unlink(missing_ok=True)
        sync_folder(path)
    if each.reason is Reason.FINAL:
        removed_note(path).write_text(f"deleted by `orchestrator gc --checkpoints`, {time.strftime('%F')}\n",
                                      encoding="utf-8")
        sync_folder(path.parent)
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for manifest in path.rglob(MANIFEST):
        manifest.unlink(missing_ok=True)
    shutil.rmtree(path)
