"""Several stores read as one: a sweep of which a part ran on another machine.

Each stage is read from the first store in which it is finished, else from the first in which it has begun. Its rows are
followed inside that store alone: attempts are numbered per store. Finished copies that say something else are counted.
Nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sweeps.errors import NewerRecordError, RecordError, UsageError, nearest
from sweeps.language.manifest import PlanFile, PlanStage, PlanTrial
from sweeps.store import records
from sweeps.store.layout import Layout, StageFolder

Roots = Path | Sequence[Path]
"""One store, or several, the first of which counts where they differ."""
ANY_PROTOCOL = "--mixed-protocols"


@dataclass(frozen=True)
class Stores(Layout):
    """Several stores; paths that are no stage's are the first one's."""

    others: tuple[Path, ...] = ()

    @property
    def roots(self) -> tuple[Path, ...]:
        """All of them, in their order."""
        return (self.root, *self.others)

    def stage(self, kind: str, fingerprint: str) -> StageFolder:
        """The folder of one stage in the store that is furthest with it."""
        if not self.others:
            return super().stage(kind, fingerprint)
        found = [Layout(root).stage(kind, fingerprint) for root in self.roots]
        return next((s for s in found if s.result.exists()), next((s for s in found if s.attempts.exists()), found[0]))

    def copies(self, stage: StageFolder) -> int:
        """Return how many further stores have finished the stage otherwise than `stage`, which is read."""
        if not self.others:
            return 0
        found = (Layout(root).stage(stage.kind, stage.fingerprint) for root in self.roots)
        own = _committed(stage)
        return sum(_committed(s) != own for s in found if s.path != stage.path and s.result.exists())


def _committed(stage: StageFolder) -> str:
    """Return the SHA-256 of a finished stage's rows; of an older record without one, its scores."""
    try:
        result = records.read_result(stage)
    except NewerRecordError:
        raise
    except RecordError:
        return "damaged"
    if result is None:
        return ""
    return str(result.files.get("metrics.jsonl", {}).get("sha256", dict(result.scores)))


def stores(roots: Roots) -> Stores:
    """Return one or several stores.

    Raises:
        UsageError: some of them hold made-up results, and some do not.
    """
    listed = (roots,) if isinstance(roots, Path) else tuple(dict.fromkeys(roots))
    made_up = [root for root in listed if Layout(root).simulated.exists()]
    if made_up and len(made_up) < len(listed):
        raise UsageError(f"the results in {made_up[0]} were made up by the memory executor, those of the other stores "
                         "were not; name stores of one kind")
    return Stores(listed[0], listed[1:])


def read_plan(roots: Roots, name: str, *, mixed: bool = False) -> PlanFile:
    """Return a sweep's plan: of several stores that have the sweep, everything that any of them planned.

    Args:
        roots: the stores; not each needs to have the sweep.
        name: the sweep.
        mixed: plans of several protocols or scales may stand beside each other; arms that are not of the first plan's
            then carry their own behind their name.

    Raises:
        UsageError: no store has such a sweep, or the plans do not belong together.
        RecordError: a plan.json does not read as one.
    """
    listed = stores(roots).roots
    plans = [(root, _read(path)) for root in listed if (path := Layout(root).sweep(name).plan).is_file()]
    if not plans:
        known = {p.name for root in listed if (d := Layout(root).sweeps).is_dir() for p in d.iterdir()}
        raise UsageError(f"no plan of sweep {name!r} under {' or '.join(map(str, listed))}; {nearest(name, known)}")
    (first_root, first), *further = plans
    for root, plan in further:
        refuse_mixed((str(first_root), first), (str(root), plan), mixed=mixed)
    return _union([(str(root), plan) for root, plan in plans]) if further else first


def _read(path: Path) -> PlanFile:
    try:
        return PlanFile.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecordError(f"{path} is damaged ({error}); run the sweep again to write it anew") from error


def kind_of(plan: PlanFile) -> str:
    """Return protocol and scale in words; empty of curves of a file, which do not say theirs."""
    return f"protocol {plan.protocol}, scale {plan.scale}" if plan.protocol else ""


def refuse_mixed(one: tuple[str, PlanFile], other: tuple[str, PlanFile], *, mixed: bool) -> None:
    """Refuse to put two plans (with the places they are from) into one comparison where protocol or scale differ.

    Raises:
        UsageError: they do, and nobody asked for it.
    """
    kinds = kind_of(one[1]), kind_of(other[1])
    if all(kinds) and kinds[0] != kinds[1] and not mixed:
        raise UsageError(f"{one[0]} has {kinds[0]}, and {other[0]} has {kinds[1]}: their numbers do not measure the "
                         f"same; {ANY_PROTOCOL} puts them into one comparison all the same")


def _union(plans: Sequence[tuple[str, PlanFile]]) -> PlanFile:
    first_root, first = plans[0]
    trials: dict[str, PlanTrial] = {}
    stages: dict[tuple[str, str], PlanStage] = {}
    for root, plan in plans:
        for trial in _marked(plan, first):
            known = trials.setdefault(trial.id, trial)
            if known.path != trial.path:
                raise UsageError(f"trial {trial.id} is not the same experiment in {root} as in {first_root}: its "
                                 "stages differ; look at both with `orchestrator compare`")
        stages |= {(s.kind, s.fingerprint): s for s in plan.stages}
    uses = Counter(key for trial in trials.values() for key in {(s.kind, s.fingerprint) for s in trial.path})
    versions: dict[str, list[str]] = {}
    for _, plan in plans:
        for package, version in plan.versions.items():
            versions.setdefault(package, []).append(version)
    return first.model_copy(update={
        "trials": tuple(trials.values()),
        "stages": tuple(replace(s, trials=uses[key] or s.trials) for key, s in stages.items()),
        "departures": tuple({d.field: d for _, plan in reversed(plans) for d in plan.departures}.values()),
        "claims": {k: v for _, plan in reversed(plans) for k, v in plan.claims.items()},
        "controls": {k: v for _, plan in reversed(plans) for k, v in plan.controls.items()},
        "versions": {k: " and ".join(dict.fromkeys(v)) for k, v in versions.items()},
    })


def _marked(plan: PlanFile, first: PlanFile) -> Sequence[PlanTrial]:
    """Return a plan's trials; of another protocol or scale than the first plan's, named by it."""
    if kind_of(plan) == kind_of(first):
        return plan.trials
    mark = f"{plan.protocol} {plan.scale}"
    tail = "@" + mark.replace(" ", "-")
    return [t.model_copy(update={
        "id": t.id + tail, "arm": f"{t.arm} ({mark})", "cell": f"{t.arm} ({mark}) | {t.domain}",
        "baseline": t.baseline and t.baseline + tail}) for t in plan.trials]
