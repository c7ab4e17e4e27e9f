"""Datasets of the Hub: brought once, found again without a network, and every fault said in words."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import datasets
import pytest
from huggingface_hub import constants
from pydantic import ValidationError

from sweeps.errors import EnvironmentError_, OrchestratorError, UsageError
from tests.workloads.data.contexts import make_texts
from tests.workloads.data.fake_hub import COMMIT, FakeHub, serving
from tests.workloads.data.rows_files import ROWS, write_rows
from workloads.contract import Brought
from workloads.data import hub
from workloads.data.hub_domain import HubScience, hub_domain
from workloads.domains import c4, codeparrot, hf, open_web_math, openwebtext


class Served(NamedTuple):
    """A fake Hub and where it is asked."""

    hub: FakeHub
    address: str


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for n in range(4):
        write_rows(tmp_path / "hub" / "data" / f"train-{n}.parquet", ROWS[n * 10:n * 10 + 10])
    write_rows(tmp_path / "hub" / "other.jsonl", ROWS)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's own tries
    fake = FakeHub(tmp_path / "hub")
    with serving(fake) as address:
        _point_at(address, monkeypatch)
        yield Served(fake, address)


def _point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_ENDPOINT does, which is read when the package is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


class Ours(HubScience):
    """A domain as a person would write it."""

    repository: str = "someone/data"
    revision: str = COMMIT
    files: tuple[str, ...] = ("data/*.parquet",)


def science(**fields: object) -> HubScience:
    return HubScience(**{"repository": "someone/data", "revision": COMMIT, "files": ("data/*.parquet",), **fields})


def texts(fields: HubScience) -> list[str]:
    return sorted(d.text for d in hf.PLUGIN.load()(fields))


EXPECTED = sorted(str(row["text"]) for row in ROWS)


def test_a_dataset_is_brought_once_and_read_without_a_network(served: Served) -> None:
    found, seen = hub.dataset(science()), []
    assert not found.complete
    sizes = sum(p.stat().st_size for p in (served.hub.folder / "data").iterdir())
    assert found.missing_bytes() == sizes
    found.bring(lambda brought: seen.append(brought))
    assert seen[-1] == Brought(done_bytes=sizes, of_bytes=sizes) and len(seen) == 4
    served.hub.fault, served.hub.asked[:] = (503, "Down"), []
    assert hub.dataset(science()).complete
    assert hub.dataset(science()).missing_bytes() == 0
    assert texts(science()) == EXPECTED
    assert served.hub.asked == []
    assert not hub.dataset(science(files=("other.jsonl",))).complete, "other files are another dataset"


def test_a_job_with_a_network_brings_it_itself(served: Served, tmp_path: Path) -> None:
    assert texts(science()) == EXPECTED
    scores = make_texts(tmp_path / "store", "ours", hub_domain(Ours))[1]
    assert scores["documents"] > 10


def test_what_was_interrupted_goes_on(served: Served) -> None:
    served.hub.fail_after = 2
    found = hub.dataset(science())
    with pytest.raises(EnvironmentError_, match=r"the Hub answered|cannot be reached"):
        found.bring()
    assert not found.complete
    served.hub.fail_after, served.hub.asked[:] = None, []
    again = hub.dataset(science())
    again.bring()
    assert sum(a.startswith("GET /datasets") for a in served.hub.asked) == 2, "two files were here"
    assert texts(science()) == EXPECTED


@pytest.mark.parametrize("fault, kind, message", [
    ((403, "GatedRepo"), EnvironmentError_, r"ask for consent.*hf auth login"),
    ((401, "RepoNotFound"), UsageError, "no such dataset, or it is private"),
    ((404, "RevisionNotFound"), UsageError, "no such commit"),
    ((500, ""), EnvironmentError_, "the Hub answered"),
])
def test_what_the_hub_refuses_is_said_in_words(
    served: Served, fault: tuple[int, str], kind: type[OrchestratorError], message: str
) -> None:
    served.hub.fault = fault
    with pytest.raises(kind, match=message):
        hub.dataset(science()).bring()


def test_without_a_network_the_next_step_is_named(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    _point_at("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(EnvironmentError_, match=r"cannot be reached.*orchestrator prefetch FILE"):
        texts(science())


@pytest.mark.parametrize("harm, message", [("cut", "is not whole"), ("gone", "is gone")])
def test_a_half_written_cache_is_noticed(served: Served, harm: str, message: str) -> None:
    hub.dataset(science()).bring()
    one = hub.dataset(science()).files()[1].path.resolve()
    one.unlink() if harm == "gone" else one.write_bytes(one.read_bytes()[:-1])
    with pytest.raises(EnvironmentError_, match=message + r".*delete .*json and run"):
        texts(science())


def test_too_little_disk_is_said_before_it_starts(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(EnvironmentError_, match=r"needs 0\.0 GB, and 1 GB are left to spare"):
        hub.dataset(science()).bring()
    assert not any(a.startswith("GET /datasets") for a in served.hub.asked)


def test_globs_that_match_nothing_list_what_there_is(served: Served) -> None:
    with pytest.raises(UsageError, match=r"no file that matches nothing/\*; it has data/train-0\.parquet"):
        hub.dataset(science(files=("nothing/*",))).bring()


CARD = """---
configs:
- config_name: small
  default: true
  data_files:
  - {split: train, path: data/train-0.parquet}
  - {split: test, path: data/train-3.parquet}
- config_name: large
  data_files: [{split: train, path: "data/train-[12].parquet"}]
---
"""


@pytest.mark.parametrize("config, split, files", [
    ("", "train", [0]), ("small", "test", [3]), ("large", "train", [1, 2]),
])
def test_configuration_and_split_are_those_of_datasets(
    served: Served, monkeypatch: pytest.MonkeyPatch, config: str, split: str, files: list[int]
) -> None:
    """`datasets` reads the card of a local copy; only the address that it gives to each file is put in its place."""
    (served.hub.folder / "README.md").write_text(CARD)
    real = datasets.load_dataset_builder

    def local(repository: str, name: str | None, *, revision: str) -> object:
        builder = real(str(served.hub.folder), name)
        for urls in builder.config.data_files.values():
            urls[:] = [url.replace(str(served.hub.folder), f"hf://datasets/{repository}@{revision}") for url in urls]
        return builder

    monkeypatch.setattr(datasets, "load_dataset_builder", local)
    fields = science(files=(), config=config, split=split)
    found = hub.dataset(fields)
    found.bring()
    assert [f.name for f in found.files()] == [f"data/train-{n}.parquet" for n in files]
    assert texts(fields) == sorted(str(r["text"]) for n in files for r in ROWS[n * 10:n * 10 + 10])


@pytest.mark.parametrize("fields, message", [
    ({"config": "huge"}, "huge"), ({"split": "dev"}, "no split 'dev'; it has train, test"),
])
def test_unknown_configurations_and_splits_are_named(
    served: Served, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str], message: str
) -> None:
    (served.hub.folder / "README.md").write_text(CARD)
    real = datasets.load_dataset_builder
    monkeypatch.setattr(datasets, "load_dataset_builder",
                        lambda repository, name, *, revision: real(str(served.hub.folder), name))
    with pytest.raises(UsageError, match=message):
        hub.dataset(science(files=(), **fields)).bring()


@pytest.mark.parametrize("revision", ["main", "0123456789", COMMIT.upper(), ""])
def test_a_revision_that_may_move_is_refused(revision: str) -> None:
    with pytest.raises(ValidationError, match="40 hex digits"):
        science(revision=revision)


@pytest.mark.parametrize("module", [c4, codeparrot, open_web_math, openwebtext])
def test_named_datasets_state_commit_files_and_licence(module: object) -> None:
    plugin = module.PLUGIN  # type: ignore[attr-defined]
    fields = plugin.science()
    assert plugin.identity(fields) == {fields.repository: fields.revision}
    assert len(fields.revision) == 40 and fields.files and fields.licence
