"""`prefetch`: what a sweep reads from elsewhere is brought beforehand, and its jobs are told where it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from orchestrator.__main__ import main
from orchestrator.plan import make_plan
from orchestrator.remotes import job_environment
from sweeps.language.spec import Overrides
from tests.workloads.data.fake_hub import COMMIT, FakeHub, serving
from tests.workloads.data.rows_files import ROWS, write_rows

SWEEP = """
schema_version: 1
name: far
question: Is it brought?
protocol: fair
scale: tiny
baseline: {upstream: none}
axes: {upstream: [none], domain: [ours, hf], seed: [0]}
plugins: [ours.py]
fields:
  tokenizer.corpora: [ours]
  hf.repository: someone/data
  hf.revision: REVISION
  hf.files: [data/train-1.parquet]
"""
OURS = """
from workloads.data.hub_domain import HubScience, Revision, hub_domain

class Ours(HubScience):
    repository: str = "someone/data"
    revision: Revision = "REVISION"
    files: tuple[str, ...] = ("data/*.parquet",)

PLUGIN = hub_domain(Ours)
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for n in range(3):
        write_rows(tmp_path / "hub" / "data" / f"train-{n}.parquet", ROWS[n * 10:n * 10 + 10])
    (tmp_path / "far.yaml").write_text(SWEEP.replace("REVISION", COMMIT))
    (tmp_path / "ours.py").write_text(OURS.replace("REVISION", COMMIT))
    for name in ("HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")  # so that what a verb sets is taken back
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda _: None)
    fake = FakeHub(tmp_path / "hub")
    with serving(fake) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                            address + "/{repo_id}/resolve/{revision}/{filename}")
        yield fake


def prefetch(tmp_path: Path, *more: str) -> int:
    return main(["prefetch", str(tmp_path / "far.yaml"), "--root", str(tmp_path / "store"), *more])


def test_all_that_a_sweep_reads_is_brought_once(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {p.name: p.stat().st_size for p in (tmp_path / "hub" / "data").iterdir()}
    assert prefetch(tmp_path, "--json") == 0
    printed, said = capsys.readouterr()
    found = json.loads(printed)
    assert found["cache"] == str(tmp_path / "store" / "huggingface" / "hub")
    assert {s["domain"] for s in found["sources"]} == {"ours", "hf"}
    assert "to bring" in said and "0 s left" in said and "free)" in said
    assert sum(a.startswith("GET /datasets") for a in hub.asked) == len(sizes)
    hub.fault = (503, "Down")
    assert prefetch(tmp_path) == 0
    assert "0 B brought" in capsys.readouterr().out


def test_jobs_are_told_where_it_is_and_that_all_of_it_is_here(hub: FakeHub, tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "far.yaml", Overrides(), tmp_path / "store")
    where = str(tmp_path / "store" / "huggingface" / "hub")
    assert job_environment(plan) == {"HF_HUB_CACHE": where}
    assert prefetch(tmp_path) == 0
    assert job_environment(plan) == {"HF_HUB_CACHE": where, "HF_HUB_OFFLINE": "1"}
    near = make_plan(Path("sweeps/smoke.yaml"), Overrides(), tmp_path / "store")
    assert job_environment(near) == {}, "nothing of it lies elsewhere"


def test_plan_says_what_it_did_not_look_at(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(tmp_path / "far.yaml"), "--root", str(tmp_path / "store"), "--no-pilot"]
    assert main(["plan", *arguments]) == 0
    printed = capsys.readouterr().out
    assert f"ours: someone/data@{COMMIT[:12]}\n" in printed and "not looked at" in printed
    assert main(["plan", *arguments, "--json"]) == 0
    assert {name.partition(":")[0] for name in json.loads(capsys.readouterr().out)["elsewhere"]} == {"ours", "hf"}
    assert not hub.asked
    assert main(["plan", "sweeps/smoke.yaml", *arguments[1:]]) == 0
    assert "elsewhere" not in capsys.readouterr().out


def test_a_sweep_with_nothing_elsewhere_has_nothing_to_bring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prefetch", "sweeps/smoke.yaml", "--root", str(tmp_path)]) == 0
    assert "nothing to bring" in capsys.readouterr().out


@pytest.mark.parametrize(("fault", "code", "said"), [
    ((403, "GatedRepo"), 4, "ask for consent"), ((404, "RevisionNotFound"), 2, "no such commit"),
])
def test_what_the_hub_refuses_ends_with_its_exit_code(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: tuple[int, str], code: int, said: str
) -> None:
    hub.fault = fault
    assert prefetch(tmp_path) == code
    assert said in capsys.readouterr().err


def test_a_missing_column_is_told_here_and_not_in_a_job(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefetch(tmp_path, "--set", "hf.column=content") == 4
    assert "has no column 'content'" in capsys.readouterr().err


def test_too_little_disk_is_told_before_anything_is_brought(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    usage = shutil.disk_usage("/")._replace(free=1_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert prefetch(tmp_path) == 4
    assert "to spare" in capsys.readouterr().err
    assert not any(a.startswith("GET /datasets") for a in hub.asked)


def test_a_branch_is_refused_when_the_file_is_planned(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefetch(tmp_path, "--set", "hf.revision=main") == 2
    assert "40 hex digits" in capsys.readouterr().err


def test_files_that_lie_here_are_looked_at_too(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_rows(tmp_path / "notes.jsonl", ROWS)
    here = ("--set", "domain=[files]", "--set", f"files.paths=[{tmp_path / 'notes.jsonl'}]")
    assert prefetch(tmp_path, *here, "--json") == 0
    assert json.loads(capsys.readouterr().out)["local"] == ["files"]
    assert prefetch(tmp_path, *here, "--set", "files.column=body") == 4
    assert "notes.jsonl has no column 'body'" in capsys.readouterr().err


def test_what_pins_a_published_task_is_said(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "task.json"
    path.write_text(json.dumps({"name": "sums", "examples": [{"input": f"{n}+1", "target": str(n + 1)}
                                                             for n in range(3)]}))
    asked = ("--set", "downstream.tasks=[bigbench_lite]", "--set", f"bigbench_lite.paths=[{path}]")
    assert prefetch(tmp_path, *asked, "--json") == 0
    [task] = json.loads(capsys.readouterr().out)["tasks"]
    assert (task["task"], task["items"]) == ("bigbench_lite", 3)
    assert prefetch(tmp_path, *asked, "--set", f"bigbench_lite.sha256={task['sha256']}") == 0
    assert f"bigbench_lite    3 items, SHA-256 {task['sha256']}\n" in capsys.readouterr().out
    assert prefetch(tmp_path, *asked, "--set", f"bigbench_lite.sha256={'a' * 64}") == 2
    assert task["sha256"] in capsys.readouterr().err
