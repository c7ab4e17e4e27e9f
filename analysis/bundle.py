"""A sweep as one file that others can check: its records as a small store, its tables, and a checksum of everything.

    store/    sweep file, plan, ledger; of each stage spec, result, and the attempts whose rows count: a store that
              every reading verb takes once it is unpacked (`tar -xf`)
    logs/     the losses from elsewhere that the sweep file names
    tables/   every table as CSV, made from the copy in `store/`, so that both are of one moment
    MANIFEST.json  environment, and size and SHA-256 of every file

Of downstream items it has ids, levels and scores (`item_records.py`); weights, texts and answers are not in it. That
tables follow from records can be verified; who made the records cannot.
"""

from __future__ import annotations

import csv
import io
import math
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from analysis.archive import pack, unpack
from analysis.item_records import IN_SHORT, STATED, in_short, sound
from analysis.stores import read_plan
from analysis.study import Study, study
from analysis.table import to_csv
from analysis.tables import tables_of
from analysis.tables.search import decided
from sweeps.errors import RecordError
from sweeps.language.asha import SELECT
from sweeps.language.manifest import PlanFile
from sweeps.store import files, integrity, records
from sweeps.store.files import sha256_file
from sweeps.store.layout import AttemptFolder, Layout, StageFolder

README = """A sweep of prepretraining-orchestrator: records (store/), tables made from them (tables/), checksums
(MANIFEST.json). `orchestrator verify FILE` compares every checksum, makes every table anew and compares it. The folder
store/ is a store: `orchestrator report NAME --root store --out DIR`. Rows are JSON lines, each with its own CRC-32.
"""
PACKAGES = ("prepretraining-orchestrator", "numpy", "pandas", "scipy")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
"""Stage kinds and fingerprints; what else a plan may hold could lead out of the folder."""
CHOICE = "artifacts/choice.json"
"""What a search chose for a cell; the table `search` is made from the losses themselves."""
_CHECKED = ("metrics.jsonl", CHOICE)
NEARLY = 2e-5
"""Relative difference of two numbers of six digits that another version of a library may make."""


def export(root: Path, name: str, out: Path) -> dict[str, Any]:
    """Write a sweep's bundle; return what its manifest states beside the files. Works while the sweep runs.

    Raises:
        UsageError: no such sweep, or `out` has no known suffix.
        EnvironmentError_: it has scores item by item, and pyarrow is not installed.
    """
    plan = read_plan(root, name)
    about = {"sweep": name, "environment": {"planned": plan.versions, "exported": environment()}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _copy(_members(Layout(root), name, plan), root, folder / "store")
        for attempt, result in _itemised(Layout(root), plan):
            path = folder / "store" / (attempt.path / IN_SHORT).relative_to(root)
            if not path.exists() and (short := in_short(attempt, result.files)):
                _write(path, short.encode())
        for position, log in enumerate(plan.logs.values()):
            if Path(log.file).is_file():
                _write(folder / _log(position), Path(log.file).read_bytes())
        _write(folder / "README.txt", README.encode())
        for table, text in _tables(folder, name).items():
            _write(folder / "tables" / f"{table}.csv", text.encode())
        pack(folder, out, about)
    return about


def environment() -> dict[str, str]:
    """Return the versions of what makes tables."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout
            found[package] = "not installed"
    return found


def opened(archive: Path, folder: Path) -> tuple[Path, PlanFile, dict[str, Any]]:
    """Unpack a bundle into an empty folder; return its store, the sweep's plan, and the manifest.

    Raises:
        RecordError: it is damaged.
    """
    manifest = unpack(archive, folder)
    name = str(manifest.get("sweep", ""))
    if f"store/sweeps/{name}/plan.json" not in manifest["files"]:
        raise RecordError(f"{archive} holds no plan of the sweep that it names, {name!r}")
    plan = plan_in(folder, name)
    named = [part for trial in plan.trials for step in trial.path for part in (step.kind, step.fingerprint)]
    for path in folder.glob("store/stages/*/*/attempts/*/parent.json"):
        parent = records.read_parent(AttemptFolder(path.parent))
        named += [parent.kind, parent.fingerprint] if parent is not None else []
    if strange := next((part for part in named if not _NAME.fullmatch(part)), None):
        raise RecordError(f"{archive}: its plan or an attempt names a stage {strange!r}; nothing of it is believed")
    return folder / "store", plan, manifest


def plan_in(folder: Path, name: str) -> PlanFile:
    """Return the plan of an unpacked bundle; its losses from elsewhere are those that the bundle holds."""
    plan = read_plan(folder / "store", name)
    logs = {key: log.model_copy(update={"file": str(folder / _log(position))})
            for position, (key, log) in enumerate(plan.logs.items())}
    return plan.model_copy(update={"logs": logs})


def verify(archive: Path) -> tuple[dict[str, Any], list[str]]:
    """Return a bundle's manifest, and everything in it that does not follow from its records, a sentence each.

    Raises:
        UsageError: no such file.
        RecordError: it is damaged, cut short, or holds what it does not list.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store, plan, manifest = opened(archive, folder)
        wrong = [*_altered(Layout(store), plan), *_chosen(Layout(store), plan),
                 *_differing(folder / "tables", _tables(folder, plan.name))]
        return manifest, [text.replace(f"{folder}/", "") for text in wrong]


# -- what is in it -----------------------------------------------------------------------------------------------------


def _members(layout: Layout, name: str, plan: PlanFile) -> Iterator[Path]:
    """Yield the files of a store that a sweep's tables come from."""
    sweep = layout.sweep(name)
    yield from (sweep.plan, sweep.sweep_file, layout.simulated)
    yield from sorted(sweep.ledger.glob("*.jsonl"))
    seen: set[Path] = set()
    for kind, fingerprint in _stages(plan):
        stage = layout.stage(kind, fingerprint)
        yield from (stage.spec, stage.result)
        for attempt in _attempts(layout, stage):
            if attempt.path not in seen:
                seen.add(attempt.path)
                yield from (attempt.parent, attempt.execution, attempt.metrics, attempt.failure, attempt.divergence,
                            attempt.cards, attempt.micro_batch, attempt.path / CHOICE, attempt.path / IN_SHORT)


def _stages(plan: PlanFile) -> list[tuple[str, str]]:
    """Return kind and fingerprint of every stage that a sweep's numbers or settings come from."""
    keys = {(s.kind, s.fingerprint) for trial in plan.trials for s in trial.path}
    keys |= {(s.kind, s.fingerprint) for s in plan.stages} | {(SELECT, c.select) for c in plan.searched}
    return sorted(keys | {(SELECT, b.select) for b in (plan.search.brackets if plan.search else ())})


def _attempts(layout: Layout, stage: StageFolder) -> Iterator[AttemptFolder]:
    """Yield the attempts whose rows count for a stage; of a damaged lineage, those up to the damage."""
    try:
        result = records.read_result(stage)
        number = result.attempt if result is not None else records.newest_attempt(stage)
        if number:
            yield from (attempt for attempt, _ in records.lineage(layout, stage.attempt(number)))
    except RecordError:
        return


def _itemised(layout: Layout, plan: PlanFile) -> Iterator[tuple[AttemptFolder, records.Result]]:
    """Yield the attempts whose results state scores item by item."""
    for key in _stages(plan):
        stage = layout.stage(*key)
        with suppress(RecordError):  # a damaged result states nothing
            result = records.read_result(stage)
            if result is not None and STATED in result.files:
                yield stage.attempt(result.attempt), result


def _copy(paths: Iterator[Path], root: Path, to: Path) -> None:
    for path in paths:
        if path.is_file():
            _write(to / path.relative_to(root), path.read_bytes())


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _log(position: int) -> str:
    return f"logs/{position}.csv"


def _tables(folder: Path, name: str) -> dict[str, str]:
    """Return name -> CSV of every table of an unpacked bundle."""
    plan = plan_in(folder, name)
    found: Study = study(folder / "store", name, plan)
    return {table: to_csv(made.build(found)) for table, made in tables_of(plan).items()}


# -- whether it is true ------------------------------------------------------------------------------------------------


def _altered(layout: Layout, plan: PlanFile) -> Iterator[str]:
    """Yield each finished stage whose rows, choice or spec are not what its own result says."""
    for key in _stages(plan):
        stage = layout.stage(*key)
        try:
            result = records.read_result(stage)
        except RecordError as error:
            yield str(error)
            continue
        if result is None:
            continue
        kept = {name: stated for name, stated in result.files.items() if name in _CHECKED}
        if text := integrity.verify(stage.attempt(result.attempt).path, kept):
            yield text
        if result.spec_sha256 and stage.spec.is_file() and sha256_file(stage.spec) != result.spec_sha256:
            yield f"{stage.spec} is not the spec that its result was made from"
    for attempt, result in _itemised(layout, plan):
        if sound(attempt, result.files) is None:
            yield f"{attempt.path / IN_SHORT} is missing, damaged, or made from other records than its result states"


def _chosen(layout: Layout, plan: PlanFile) -> Iterator[str]:
    """Yield each choice of a search that is not the one that its candidates' losses make."""
    for bracket, _, decision in decided(layout, plan):
        stage = layout.stage(SELECT, bracket.select)
        try:
            path = records.artifacts_of(stage).parent / CHOICE
            said = files.read_json(path)["values"]
        except (OSError, ValueError, KeyError, RecordError):  # not made yet, or damaged, which `_altered` says
            continue
        made = {} if decision.best is None else bracket.candidates[decision.best].values
        if said != made:
            yield f"{path}: it says {said}, the losses say {made}"


def _differing(folder: Path, made: dict[str, str]) -> Iterator[str]:
    """Yield what differs between the tables of a bundle and those made anew from its records."""
    kept = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.csv"))}
    for name in sorted(kept.keys() - made.keys()):
        yield f"tables/{name}.csv: this release makes no such table"
    for name in sorted(kept.keys() & made.keys()):
        yield from _lines(name, kept[name], made[name])
    if made and not kept:
        yield "tables/: it holds none"


def _lines(name: str, kept: str, made: str) -> Iterator[str]:
    one, two = (list(csv.reader(io.StringIO(text))) for text in (kept, made))
    if one[:1] != two[:1]:
        yield f"tables/{name}.csv: its columns are not those that this release makes"
        return
    if len(one) != len(two):
        yield f"tables/{name}.csv: has {len(one) - 1} rows, the records give {len(two) - 1}"
    wrong = [(line, column, a, b) for line, (left, right) in enumerate(zip(one, two, strict=False), start=1)
             for column, a, b in zip(one[0], left, right, strict=False) if not _same(a, b)]
    if wrong:
        line, column, a, b = wrong[0]
        yield (f"tables/{name}.csv: {len(wrong)} values differ, the first in line {line}, {column}: it says {a!r}, the "
               f"records give {b!r}")


def _same(kept: str, made: str) -> bool:
    if kept == made:
        return True
    try:
        return math.isclose(float(kept), float(made), rel_tol=NEARLY)
    except ValueError:
        return False
