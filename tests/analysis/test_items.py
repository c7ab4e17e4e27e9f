"""Scores item by item: a bundle carries them, the base install reads them there, and where lost they are missed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import analysis
from analysis.bundle import export, verify
from analysis.downstream import LOST
from analysis.item_records import IN_SHORT, STATED
from analysis.load import load
from analysis.study import Study
from analysis.tables import registry
from sweeps.store import files
from tests.analysis.test_bundle import base_install, members_of, packed
from tests.analysis.test_downstream import NCA, SCRATCH, _asked, drawn, itemised, stage_of  # noqa: F401

NUMBERS = ["low", "high", "difference_low", "difference_high", "detectable"]
TRIAL = f"{NCA.replace(' ', '_')}-web-s0"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A sweep whose stages have left records of 40 items."""
    itemised(tmp_path / "store", {SCRATCH: [drawn(0.0, s) for s in range(3)],
                                  NCA: [drawn(0.05, s + 10) for s in range(3)]})
    return tmp_path / "store"


@pytest.fixture
def bundle(store: Path, tmp_path: Path) -> Path:
    export(store, "demo", tmp_path / "demo.tar.gz")
    return tmp_path / "demo.tar.gz"


def build(root: Path, name: str) -> pd.DataFrame:
    return registry()[name].build(Study(load(root, "demo")))


def own(frame: pd.DataFrame) -> pd.Series[Any]:
    return frame[frame["arm"] == NCA].iloc[0]


def test_a_bundle_has_the_intervals_over_items_and_seeds_that_its_store_has(store: Path, bundle: Path) -> None:
    kept, made = build(store, "downstream"), analysis.load(bundle).downstream()
    assert set(made["over"]) == {"items, seeds"}
    pd.testing.assert_frame_equal(made, kept)
    manifest, wrong = verify(bundle)
    assert not wrong and sum(name.endswith(IN_SHORT) for name in manifest["files"]) == 6


def test_it_has_them_without_texts_and_answers(bundle: Path) -> None:
    members = members_of(bundle)
    assert not any(name.endswith(".parquet") for name in members)
    short = files.unseal(next(data for name, data in members.items() if name.endswith(IN_SHORT)).decode())
    assert short is not None and short.keys() == {"schema_version", "made_from", "ids", "levels", "columns"}
    assert short["columns"].keys() == {"cloze", "cloze.chance"}


def test_a_bundle_of_an_unpacked_bundle_is_the_same(bundle: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", str(bundle)], cwd=tmp_path, check=True)
    (tmp_path / "again").mkdir()
    (tmp_path / "store").rename(tmp_path / "first")
    subprocess.run(["tar", "-xf", str(bundle)], cwd=tmp_path, check=True)
    export(tmp_path / "store", "demo", tmp_path / "again" / "demo.tar.gz")
    assert (tmp_path / "again" / "demo.tar.gz").read_bytes() == bundle.read_bytes()


def test_scores_of_items_that_were_altered_with_their_checksums_are_named(bundle: Path, tmp_path: Path) -> None:
    members = members_of(bundle)
    name = next(n for n in members if n.endswith(IN_SHORT))
    short = files.unseal(members[name].decode()) or {}
    better = {**short, "columns": {**short["columns"], "cloze": [1.0] * 40}}
    foreign = {**short, "made_from": "0" * 64}
    for forged, said in ((files.seal(better), "tables/downstream.csv"), (files.seal(foreign), "other records than"),
                         ("{", "is missing, damaged")):
        wrong = verify(packed(tmp_path / "x.tar.gz", members | {name: forged.encode()}))[1]
        assert any(said in text for text in wrong)


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9] + bytes(9))


@pytest.mark.parametrize("harm", [Path.unlink, damaged, lambda path: path.write_bytes(b"")],
                         ids=["gone", "damaged", "emptied"])
def test_items_that_are_lost_take_the_interval_with_them_and_are_counted(
    harm: Callable[[Path], Any], store: Path
) -> None:
    before = own(build(store, "downstream"))
    harm(stage_of(store, TRIAL, "downstream")[1].path / STATED)
    row, missing = own(build(store, "downstream")), build(store, "missing")
    assert row[NUMBERS].isna().all() and row["over"] == row["beats"] == LOST
    assert (row["mean"], row["difference"]) == (before["mean"], pytest.approx(before["difference"]))
    assert missing[["trial", "what", "status", "count"]].to_numpy().tolist() == [[TRIAL, "downstream", "lost items", 1]]


def test_lost_items_stay_lost_in_a_bundle_which_says_so(store: Path, tmp_path: Path) -> None:
    damaged(stage_of(store, TRIAL, "downstream")[1].path / STATED)
    export(store, "demo", tmp_path / "x.tar.gz")
    assert own(analysis.load(tmp_path / "x.tar.gz").downstream())["over"] == LOST
    assert any("items.json is missing" in text for text in verify(tmp_path / "x.tar.gz")[1])


def test_a_file_that_no_result_states_is_not_read(store: Path) -> None:
    for seed in range(3):
        stage, _ = stage_of(store, f"scratch-web-s{seed}", "downstream")
        result = files.read_json(stage.result)
        del result["files"][STATED]
        files.replace(stage.result, files.seal(result))
    frame = build(store, "downstream")
    assert frame[frame["arm"] == SCRATCH]["over"].tolist() == ["seeds"]


def test_the_base_install_verifies_a_bundle_and_says_where_it_needs_pyarrow(
    store: Path, bundle: Path, tmp_path: Path
) -> None:
    assert base_install("verify", str(bundle)).returncode == 0
    told = base_install("table", "downstream", "demo", "--root", str(store), "--format", "csv")
    assert told.stdout.count(LOST) == 4 and "items, seeds" not in told.stdout
    counted = base_install("table", "missing", "demo", "--root", str(store), "--format", "csv")
    assert counted.stdout.count(",lost items,1,") == 6
    refused = base_install("export", "demo", "--root", str(store), "-o", str(tmp_path / "other.tar.gz"))
    assert refused.returncode == 4 and "pip install pyarrow" in refused.stderr
    assert not (tmp_path / "other.tar.gz").exists()
