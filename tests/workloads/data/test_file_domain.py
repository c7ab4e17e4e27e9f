"""Domains of your own files: every format, identity by content, and what is wrong said in words."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import datasets
import pytest
from pydantic import ValidationError

from sweeps.errors import EnvironmentError_, UsageError
from sweeps.language.stage import section
from tests.workloads.data.contexts import make_texts
from tests.workloads.data.rows_files import ROWS, write_rows
from workloads.data import digests
from workloads.data.file_domain import FilesScience, files_of, size_of
from workloads.data.rows import UNPACKED, DataFile, RowDocuments
from workloads.domains.files import PLUGIN
from workloads.registry import load_registries

FORMATS = ("a.parquet", "a.jsonl", "a.json.gz", "a.ndjson.zst")
OWN = '''
from workloads.data.file_domain import FilesScience, Paths, file_domain

class Notes(FilesScience):
    paths: Paths = ("FOLDER/*.jsonl",)
    column: str = "body"
    licence: str = "our own"

PLUGIN = file_domain(Notes)
'''


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def documents(**fields: object) -> list[str]:
    return [d.text for d in PLUGIN.load()(FilesScience(**fields))]


def identity(**fields: object) -> dict[str, str | None]:
    assert PLUGIN.identity is not None
    return dict(PLUGIN.identity(FilesScience(**fields)))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / "data" / name, ROWS)
    assert documents(paths=str(tmp_path / "data" / "*")) == [row["text"] for row in ROWS]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.json.gz"])
def test_documents_are_those_that_datasets_loads(tmp_path: Path, name: str) -> None:
    """The same local files through `datasets.load_dataset`, streaming."""
    path = write_rows(tmp_path / "data" / name, ROWS)
    kind = "parquet" if name.endswith("parquet") else "json"
    theirs = datasets.load_dataset(kind, data_files=str(path), split="train", streaming=True,
                                   cache_dir=str(tmp_path / "hf"))
    assert documents(paths=str(path)) == [row["text"] for row in theirs]


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffone\ntwo", encoding="utf-8")
    (tmp_path / "b.md.gz").write_bytes(gzip.compress("größe".encode()))
    (tmp_path / "c.bin").write_bytes(b"\0")
    assert sorted(documents(paths=str(tmp_path))) == ["größe", "one\ntwo"]


def test_rows_are_chosen_by_column_and_length(tmp_path: Path) -> None:
    path = str(write_rows(tmp_path / "a.parquet", ROWS))
    assert documents(paths=path, where={"licence": "mit"}) == [r["text"] for r in ROWS if r["licence"] == "mit"]
    assert documents(paths=path, where={"licence": ["gpl"], "lines": [3, 5, 8]}) == [ROWS[3]["text"], ROWS[5]["text"]]
    lengths = [len(str(r["text"])) for r in ROWS]
    low, high = sorted(set(lengths))[1], sorted(set(lengths))[-2]
    assert documents(paths=path, min_chars=low, max_chars=high) == [
        r["text"] for r, size in zip(ROWS, lengths, strict=True) if low <= size <= high]


def test_identity_is_content_wherever_it_lies(tmp_path: Path) -> None:
    for n in range(3):
        write_rows(tmp_path / "here" / f"{n}.jsonl", ROWS[n * 10:n * 10 + 10])
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    here, there = (FilesScience(paths=f"{tmp_path / f}/*.jsonl", licence=f) for f in ("here", "there"))
    assert PLUGIN.identity is not None and PLUGIN.identity(here) == PLUGIN.identity(there)
    assert section(here, "domain:files").identity == section(there, "domain:files").identity
    other = section(FilesScience(paths="/x", column="y"), "domain:files")
    assert section(here, "domain:files").identity != other.identity
    assert [(d.source, d.path) for d in PLUGIN.load()(here)] == [(d.source, d.path) for d in PLUGIN.load()(there)]
    before = identity(paths=f"{tmp_path}/there/*.jsonl")
    (tmp_path / "there" / "1.jsonl").rename(tmp_path / "there" / "4.jsonl")
    renamed = identity(paths=f"{tmp_path}/there/*.jsonl")
    write_rows(tmp_path / "there" / "4.jsonl", ROWS[:10])
    assert len({before["files"], renamed["files"], identity(paths=f"{tmp_path}/there/*.jsonl")["files"]}) == 3


def test_large_files_are_read_once_and_again_when_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"a" * 2_000_000)
    read: list[Path] = []
    whole = digests.sha256_file
    monkeypatch.setattr(digests, "sha256_file", lambda path: (read.append(path), whole(path))[1])
    first = digests.digest_of(file)
    assert digests.digest_of(file) == first and len(read) == 2, "just changed: not remembered yet"
    monkeypatch.setattr(digests, "SETTLED_SECONDS", -1.0)
    assert [digests.digest_of(file) for _ in range(3)] == [first] * 3 and len(read) == 3
    times = file.stat()
    file.write_bytes(b"b" * 2_000_000)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copying program sets it
    assert digests.digest_of(file) == whole(file) != first


@pytest.mark.parametrize("fields, message", [
    ({"paths": "data/*.txt"}, "absolute path"), ({"paths": []}, "at least 1"),
    ({"paths": "/x", "min_chars": 5, "max_chars": 4}, "no document fits"),
])
def test_impossible_fields_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FilesScience(**fields)


def test_what_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file here"):
        identity(paths=str(tmp_path / "none" / "*.jsonl"))
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(UsageError, match="no known format"):
        documents(paths=str(tmp_path / "a.csv"))
    for name in FORMATS:
        file = write_rows(tmp_path / name, ROWS)
        with pytest.raises(EnvironmentError_, match=r"no column 'txt'.*Did you mean 'text'"):
            documents(paths=str(file), column="txt")
        with pytest.raises(EnvironmentError_, match="no column 'license'"):
            documents(paths=str(file), where={"license": ["mit"]})
        if name != "a.jsonl":
            file.write_bytes(file.read_bytes()[:-40])
            with pytest.raises(EnvironmentError_, match="in part: bring it again"):
                documents(paths=str(file))
    (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text":')
    with pytest.raises(EnvironmentError_, match=r"b\.jsonl cannot be read"):
        documents(paths=str(tmp_path / "b.jsonl"))


def test_a_domain_of_ten_lines(tmp_path: Path) -> None:
    write_rows(tmp_path / "data" / "a.jsonl", [{"body": f"{n} " + str(r["text"])} for n, r in enumerate(ROWS)])
    (tmp_path / "notes.py").write_text(OWN.replace("FOLDER", str(tmp_path / "data")))
    domain = load_registries([tmp_path / "notes.py"]).domains.find("notes")
    scores = make_texts(tmp_path / "store", "notes", domain)[1]
    assert scores["documents"] > 20, "some repeat others"


def test_what_plain_files_hold_is_known_before_they_are_read(tmp_path: Path) -> None:
    for name, known in (("a.jsonl", True), ("b.json.gz", False), ("c.parquet", False)):
        path = write_rows(tmp_path / name, ROWS)
        size = size_of(FilesScience(paths=(str(path),)))
        assert (size is not None) == known
        documents = RowDocuments("files", [DataFile(name=name, path=path)], FilesScience(paths=(str(path),)))
        assert documents.text_bytes == path.stat().st_size * (1 if known else UNPACKED)
        if size is not None:
            assert sum(len(str(row["text"]).encode()) for row in ROWS) <= size.bytes == path.stat().st_size


def test_the_columns_of_every_file_are_looked_at(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", ROWS)
    write_rows(tmp_path / "b.jsonl", [{"body": "other"}])
    science = FilesScience(paths=(str(tmp_path),))
    with pytest.raises(EnvironmentError_, match=r"b.jsonl has no column 'text'"):
        RowDocuments("files", list(files_of(science.paths)), science).read_one()
