"""Bundles: the same bytes for the same records, verified as a whole, and believed in nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import analysis
from analysis.archive import SUFFIXES
from analysis.bundle import export, verify
from analysis.load import load
from orchestrator.__main__ import main
from sweeps.errors import RecordError, UsageError
from sweeps.language.manifest import PlanLog
from sweeps.store import files
from sweeps.store.integrity import MANIFEST
from sweeps.store.layout import Layout
from tests.analysis.conftest import RELAXED, SweepBuilder

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished sweep that names losses from elsewhere."""
    folder = tmp_path_factory.mktemp("bundled")
    log = folder / "theirs.csv"
    log.write_text("tokens,val_loss,seed\n150000,4.8,0\n300000,4.4,0\n")
    plan = {"logs": {"theirs": PlanLog(file=str(log), sha256=files.sha256_file(log), domain="web")}}
    return SweepBuilder(folder / "store", domains=("web",), plan=plan).build()


@pytest.fixture(scope="module")
def bundle(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out") / "demo.tar.gz"
    export(store, "demo", path)
    return path


def members_of(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


def packed(path: Path, members: Members, *others: tarfile.TarInfo, listed: bool = True) -> Path:
    """Write members as somebody would who knows the format: `listed` makes the manifest fit them."""
    if listed:
        manifest = json.loads(members[MANIFEST])
        manifest.pop("crc")
        manifest["files"] = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                             for name, data in members.items() if name != MANIFEST}
        members = members | {MANIFEST: files.seal(manifest).encode()}
    with gzip.open(path, "wb") as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for other in others:
            tar.addfile(other, io.BytesIO(bytes(other.size)))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_exported_verifies_and_has_the_same_bytes_again(suffix: str, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "copied" / "store")
    for root, name in ((store, "a"), (tmp_path / "copied" / "store", "b")):
        export(root, "demo", tmp_path / f"{name}{suffix}")
        os.utime(root)
    one, two = (tmp_path / f"{name}{suffix}" for name in "ab")
    assert one.read_bytes() == two.read_bytes()
    manifest, wrong = verify(one)
    assert not wrong and manifest["sweep"] == "demo" and "tables/convergence.csv" in manifest["files"]


def test_unpacked_it_is_a_store_with_the_same_results(store: Path, bundle: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", str(bundle)], cwd=tmp_path, check=True)
    assert load(tmp_path / "store", "demo").curves.equals(load(store, "demo").curves)
    assert analysis.load(bundle).convergence().equals(analysis.load(store).convergence())
    assert "theirs" in set(analysis.load(bundle).elsewhere()["arm"])


def test_an_unfinished_sweep_says_what_is_missing_in_its_bundle_too(partial: Path, tmp_path: Path) -> None:
    export(partial, "demo", tmp_path / "p.tar.xz")
    assert verify(tmp_path / "p.tar.xz")[1] == []
    assert len(analysis.load(tmp_path / "p.tar.xz").missing()) == len(analysis.load(partial).missing()) > 0


def test_a_table_that_does_not_follow_from_the_records_is_named(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = members_of(bundle)
    rows = members["tables/convergence.csv"].decode().splitlines()
    column = rows[0].split(",").index("gain_nats")
    cells = rows[3].split(",")
    cells[column] = "0.9"
    members["tables/convergence.csv"] = "\n".join([*rows[:3], ",".join(cells), *rows[4:], ""]).encode()
    path = packed(tmp_path / "forged.tar.gz", members)
    assert main(["verify", str(path)]) == 1
    told = capsys.readouterr().out
    assert "tables/convergence.csv: 1 values differ, the first in line 4, gain_nats: it says '0.9'" in told
    assert "NOT verified" in told
    assert main(["verify", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verified"] is False


@pytest.mark.parametrize("change", [
    lambda text: text.replace('"loss":4', '"loss":3'), lambda text: text[: len(text) // 2], lambda text: text + text],
    ids=["altered", "cut", "repeated"])
def test_records_that_were_altered_with_their_checksums_are_named(
    change: Callable[[str], str], bundle: Path, tmp_path: Path
) -> None:
    members = members_of(bundle)
    name = next(n for n, data in members.items() if n.endswith("metrics.jsonl") and b'"kind":"end"' in data)
    members[name] = change(members[name].decode()).encode()
    wrong = verify(packed(tmp_path / "forged.tar.gz", members))[1]
    assert any(name in text and "manifest" in text for text in wrong)


@RELAXED
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), suffix=st.sampled_from(SUFFIXES),
       cut=st.booleans())
def test_no_damage_passes_for_a_bundle(
    where: float, bit: int, suffix: str, cut: bool, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = tmp_path_factory.getbasetemp() / f"whole{suffix}"
    if not whole.exists():
        export(store, "demo", whole)
    data = bytearray(whole.read_bytes())
    at = int(where * len(data))
    if cut:
        del data[at:]
    else:
        data[at] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(data)
    try:
        manifest, wrong = verify(path)
    except RecordError as error:
        assert str(path) in str(error)
    else:  # a bit that says nothing, such as the time in a gzip header
        assert not cut and not wrong and manifest["sweep"] == "demo"


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("member", [
    special("link", tarfile.SYMTYPE, "/etc/passwd"), special("hard", tarfile.LNKTYPE, MANIFEST),
    special("pipe", tarfile.FIFOTYPE), special("folder", tarfile.DIRTYPE), special("device", tarfile.CHRTYPE),
    special("../outside", tarfile.REGTYPE), special("/tmp/outside", tarfile.REGTYPE),
    special("unlisted", tarfile.REGTYPE), special("README.txt", tarfile.REGTYPE), special(MANIFEST, tarfile.REGTYPE),
], ids=lambda m: str(m.name))
def test_a_member_that_is_no_listed_plain_file_is_refused(
    member: tarfile.TarInfo, bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match="nothing of it is believed"):
        verify(packed(tmp_path / "x.tar.gz", members_of(bundle), member))
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar.gz"]


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a//b", "./a", "a/../../b", "a\\b", "", "a\nb"])
def test_a_path_that_leads_out_is_refused_though_it_is_listed(name: str, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="paths or sizes that no bundle has"):
        verify(packed(tmp_path / "x.tar.gz", members_of(bundle) | {name: b"x"}))
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar.gz"]


def test_a_file_in_the_place_of_a_folder_is_damage(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="damaged"):
        verify(packed(tmp_path / "x.tar.gz", members_of(bundle) | {"README.txt/below": b"x"}))


def test_sizes_and_checksums_of_the_manifest_hold(bundle: Path, tmp_path: Path) -> None:
    members = members_of(bundle)
    for data, said in ((b"x", "not as its manifest lists it"), (bytes(len(members["README.txt"])), "SHA-256")):
        with pytest.raises(RecordError, match=said):
            verify(packed(tmp_path / "x.tar.gz", members | {"README.txt": data}, listed=False))
    del members["README.txt"]
    with pytest.raises(RecordError, match="lacks 1 of its files"):
        verify(packed(tmp_path / "x.tar.gz", members, listed=False))


def test_names_in_the_records_lead_nowhere_else(store: Path, bundle: Path, tmp_path: Path) -> None:
    members = members_of(bundle)
    plan = "store/sweeps/demo/plan.json"
    outside = members | {plan: members[plan].replace(b'"kind":"corpus"', b'"kind":"../../../etc"', 1)}
    manifest = json.loads(members[MANIFEST]) | {"sweep": "../../demo"}
    manifest.pop("crc")
    for forged, said in ((outside, "names a stage '../../../etc'"),
                         (members | {MANIFEST: files.seal(manifest).encode()}, "holds no plan of the sweep")):
        with pytest.raises(RecordError, match=said):
            verify(packed(tmp_path / "x.tar.gz", forged))


@pytest.mark.parametrize(("name", "said"), [("none.tar.zst", "No such file"), ("plan.json", "a bundle's name ends in"),
                                            ("empty.tar.zst", "damaged or cut short"), ("text.tar.gz", "damaged"),
                                            ("other.tar.xz", "does not begin with MANIFEST.json")])
def test_what_is_no_bundle_is_said(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.json").write_text("{}")
    (tmp_path / "empty.tar.zst").touch()
    (tmp_path / "text.tar.gz").write_text("This is a text.")
    with tarfile.open(tmp_path / "other.tar.xz", "w:xz") as tar:
        tar.add(tmp_path / "plan.json", "plan.json")
    assert main(["verify", str(tmp_path / name)]) in (1, 2)
    assert said in capsys.readouterr().err


def test_export_says_what_it_wrote_and_refuses_other_suffixes(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "demo.tar.zst"
    assert main(["export", "demo", "--root", str(store), "-o", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sha256"] == files.sha256_file(out) and said["environment"]["planned"]["torch"] == "2.13.0"
    assert main(["verify", str(out)]) == 0 and "every checksum holds" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"ends in .tar.zst, .tar.gz, .tar.xz"):
        export(store, "demo", tmp_path / "demo.zip")
    assert not (tmp_path / "demo.zip").exists()


def base_install(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tool without what only the extra `run` brings."""
    code = f"""
import sys
from orchestrator.__main__ import main

class Absent:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("torch", "ray", "pyarrow", "transformers", "submitit", "psutil", "datasets"):
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
sys.exit(main({list(arguments)!r}))
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          cwd=Path(__file__).parent.parent.parent)


def test_the_base_install_reads_it(bundle: Path) -> None:
    done = base_install("verify", str(bundle))
    assert done.returncode == 0, done.stderr


def test_a_sweep_without_any_record_has_a_bundle(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path / "store", seeds=1, fate=lambda *_: "absent").build()
    export(root, "demo", tmp_path / "x.tar.gz")
    assert verify(tmp_path / "x.tar.gz")[1] == [] and Layout(root).stages.exists() is False


def test_the_environment_that_made_the_tables_is_stated_where_they_differ(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = members_of(bundle)
    manifest = json.loads(members[MANIFEST])
    manifest.pop("crc")
    manifest["environment"]["exported"]["numpy"] = "1.0"
    members[MANIFEST] = files.seal(manifest).encode()
    members["tables/convergence.csv"] = members["tables/convergence.csv"].replace(b"scratch", b"scrotch")
    assert main(["verify", str(packed(tmp_path / "x.tar.gz", members))]) == 1
    assert "made with other versions: numpy 1.0 there" in capsys.readouterr().out
