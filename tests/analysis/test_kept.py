"""Frames that are kept: never another number than the records give, whatever happens to the files."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import kept, rows
from analysis.load import Records, load
from sweeps.store import files
from sweeps.store.layout import Layout, StageFolder
from tests.analysis.conftest import RELAXED, SweepBuilder


@pytest.fixture(autouse=True)
def _small_sweeps_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "WORTH", 1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SweepBuilder(tmp_path_factory.mktemp("kept"), domains=("web",), seeds=1).build()


def frames_of(root: Path) -> Path:
    return Layout(root).sweep("demo").frames


def files_of(root: Path) -> list[Path]:
    return sorted(frames_of(root).iterdir()) if frames_of(root).is_dir() else []


def same(one: Records, other: Records) -> bool:
    """Every frame has the same values, dtypes and categories."""
    return all(getattr(one, name).equals(getattr(other, name)) for name in ("trials", "curves", "scores", "steps")
               ) and dict(one.items) == dict(other.items)


def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "read_own", lambda attempt: pytest.fail(f"{attempt.path} was decoded again"))


def test_a_second_load_decodes_nothing_and_is_the_same(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(source, tmp_path / "store", ignore=shutil.ignore_patterns("frames"))
    first = load(root, "demo")
    assert {p.stem for p in files_of(root)} >= {"trials", "curves", "scores", "steps", "looked", "MANIFEST"}
    no_decoding(monkeypatch)
    assert same(load(root, "demo"), first)


def test_another_spelling_of_the_root_finds_what_is_kept(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(source, "demo")
    monkeypatch.chdir(source.parent)
    no_decoding(monkeypatch)
    assert same(load(Path(source.name), "demo"), first)


def test_only_the_trial_that_has_changed_is_read_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(source, tmp_path / "store", ignore=shutil.ignore_patterns("frames"))
    before = load(root, "demo")
    trial = before.plan.trials[1]
    step = max((s for s in trial.path if s.role == "end"), key=lambda s: s.tokens)
    attempt = Layout(root).stage(step.kind, step.fingerprint).attempt(1)
    attempt.metrics.write_text(files.encode_line(0, {"tokens": step.tokens, "kind": "end", "values": {"loss": 1.25}}))
    decoded, read = [], rows.read_own
    monkeypatch.setattr(rows, "read_own", lambda a: decoded.append(a.path.parent.parent.name) or read(a))  # type: ignore[func-returns-value]
    found = load(root, "demo")
    after = found.curves
    assert step.fingerprint in decoded and set(decoded) <= {s.fingerprint for s in trial.path}
    own = after[(after["trial"] == trial.id) & after["scored"] & (after["tokens"] == step.tokens)]
    assert own["loss"].tolist() == [1.25] and len(after) == len(before.curves)
    assert list(found.trials["trial"]) == [t.id for t in before.plan.trials], "in the plan's order"
    no_decoding(monkeypatch)
    assert same(load(root, "demo"), found), "what was new is kept with what was known"


CHANGES: dict[str, Callable[[StageFolder], object]] = {
    "a result that is gone": lambda stage: stage.result.unlink(),
    "a result that was altered": lambda stage: stage.result.write_text(stage.result.read_text() + " "),
    "rows that are gone": lambda stage: stage.attempt(1).metrics.unlink(),
    "a row more": lambda stage: stage.attempt(1).metrics.write_text(stage.attempt(1).metrics.read_text() + "torn"),
    "another spec": lambda stage: stage.spec.write_text(
        files.to_json({"sections": {"optim": {"values": {"schedule": "wsd", "lr": 0.5}}}})),
    "a parent": lambda stage: stage.attempt(1).parent.write_text("{}"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("role", ["trunk", "end"])
def test_whatever_happens_to_the_records_is_seen(change: str, role: str, source: Path, tmp_path: Path) -> None:
    root = shutil.copytree(source, tmp_path / "store", ignore=shutil.ignore_patterns("frames"))
    load(root, "demo")
    for trial in (0, 2):
        step = max((s for s in load(root, "demo").plan.trials[trial].path if s.role == role), key=lambda s: s.tokens)
        CHANGES[change](Layout(root).stage(step.kind, step.fingerprint))
    found = load(root, "demo")
    shutil.rmtree(frames_of(root))
    assert same(load(root, "demo"), found)


def test_what_was_absent_and_has_come_is_seen(source: Path, tmp_path: Path) -> None:
    root = shutil.copytree(source, tmp_path / "store", ignore=shutil.ignore_patterns("frames"))
    stages = [Layout(root).stage(s.kind, s.fingerprint) for s in load(root, "demo").plan.trials[0].path[-3:]]
    shutil.rmtree(frames_of(root))
    for stage in stages:
        stage.path.rename(f"{stage.path}-away")
    partial = load(root, "demo")
    for stage in stages:
        stage.path.with_name(f"{stage.path.name}-away").rename(stage.path)
    whole = load(root, "demo")
    assert not same(whole, partial) and same(whole, load(source, "demo"))


def test_another_plan_is_read_from_the_records_and_replaces_nothing(source: Path, tmp_path: Path) -> None:
    root = shutil.copytree(source, tmp_path / "store", ignore=shutil.ignore_patterns("frames"))
    whole = load(root, "demo")
    kept_files = [p.read_bytes() for p in files_of(root)]
    part = whole.plan.model_copy(update={"trials": whole.plan.trials[:2]})
    assert len(load(root, "demo", part).trials) == 2
    assert [p.read_bytes() for p in files_of(root)] == kept_files


@RELAXED
@given(which=st.integers(0, 20), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_damage_to_the_files_changes_no_number(which: int, where: float, bit: int, cut: bool, source: Path) -> None:
    whole = load(source, "demo")
    path = files_of(source)[which % len(files_of(source))]
    data = bytearray(path.read_bytes())
    at = int(where * len(data))
    if cut:
        del data[at:]
    else:
        data[at] ^= 1 << bit
    path.write_bytes(data)
    try:
        assert same(load(source, "demo"), whole)
    finally:
        shutil.rmtree(frames_of(source))
        load(source, "demo")


@pytest.mark.parametrize("break_it", [
    lambda root, patch: frames_of(root).write_text("a file"),
    lambda root, patch: (patch.delattr(pyarrow, "parquet"), patch.setitem(sys.modules, "pyarrow.parquet", None)),
    lambda root, patch: patch.setattr(os, "fdopen", lambda *a: (_ for _ in ()).throw(OSError(30, "read-only"))),
], ids=["a file in its place", "no pyarrow", "a read-only store"])
def test_where_it_cannot_be_kept_the_records_are_read(
    break_it: Callable[[Path, pytest.MonkeyPatch], object], source: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = load(source, "demo")
    root = shutil.copytree(source, tmp_path / "store", ignore=shutil.ignore_patterns("frames"))
    break_it(root, monkeypatch)
    assert same(load(root, "demo"), whole) and not files_of(root)
    assert not list(frames_of(root).parent.rglob(".*")), "nothing half-written is left"


def test_small_sweeps_keep_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    root = shutil.copytree(source, tmp_path / "store", ignore=shutil.ignore_patterns("frames"))
    load(root, "demo")
    assert not frames_of(root).exists()
