"""Definitions of lm-evaluation-harness as items. What needs its code is skipped where it is not installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from pydantic import ValidationError

from sweeps.errors import EnvironmentError_, UsageError
from tests.workloads.data.fake_hub import COMMIT, FakeHub, serving
from workloads.contract import Brought, Item
from workloads.data import hub
from workloads.downstream.items import checked, digest
from workloads.tasks import _harness, harness
from workloads.tasks._harness import Together
from workloads.tasks.harness import PLUGIN, HarnessScience

ROOT = Path(__file__).parent.parent.parent.parent
FOLDER = ROOT / "tests" / "data" / "harness"
LOCAL = ("arc_local", "pairs_local", "endings_local")
ROWS = [{"q": "Is it?", "a": "yes", "b": "no", "label": 0}, {"q": "Was it?", "a": "yes", "b": "no", "label": 1}]
OWN = {"task": "own", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
       "output_type": "multiple_choice", "test_split": "test", "doc_to_text": "{{q}}", "doc_to_target": "label",
       "doc_to_choice": "{{[a, b]}}"}


@pytest.fixture
def lm_eval(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Its tasks, without a network."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        yield pytest.importorskip("lm_eval.tasks", reason="lm-eval is not installed: pip install '.[harness]'")


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What versions of packages are installed, for what only asks that."""
    found = {"lm-eval": "0.4.13"}

    def ask(name: str) -> str:
        if name not in found:
            raise PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(harness, "version", ask)
    return found


def folder(place: Path, rows: Any = ROWS, **fields: Any) -> Path:
    """Write a definition and its data. JSON is YAML."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "own.yaml").write_text(json.dumps({**OWN, **fields}), encoding="utf-8")
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return place


def items(place: Path, *tasks: str, **fields: Any) -> list[Item]:
    science = HarnessScience(tasks=tasks or ("own",), folder=str(place), **fields)
    return checked("harness", PLUGIN.load()(science))


@pytest.mark.parametrize(("fields", "reason"), [
    ({}, "tasks"), ({"tasks": []}, "at least 1"), ({"tasks": ["a"], "folder": "mine"}, "depends on where a job is"),
    ({"tasks": ["a"], "datasets": ["someone/data"]}, "may mean other data tomorrow"),
    ({"tasks": ["a"], "datasets": ["someone/data@main"]}, "may mean other data tomorrow"),
    ({"tasks": ["a"], "datasets": [f"some one@{COMMIT}"]}, "repository"), ({"tasks": ["a"], "shots": -1}, "shots"),
])
def test_fields_that_leave_open_what_is_asked_are_refused(fields: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        HarnessScience.model_validate(fields)


def test_versions_commits_and_the_folders_content_are_the_identity_and_its_place_is_not(
        version: dict[str, str], tmp_path: Path) -> None:
    def identity(place: str, *datasets: str) -> dict[str, str | None]:
        return dict(harness.identity(HarnessScience(tasks=("own",), folder=str(tmp_path / place), datasets=datasets)))

    folder(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first = identity("a", f"someone/data@{COMMIT}")
    assert first == identity("b", f"someone/data@{COMMIT}")
    assert first.keys() == {"lm-eval", "someone/data", "folder"} and first["someone/data"] == COMMIT
    (tmp_path / "b" / "cached.pyc").write_bytes(b"x")
    assert identity("a") == identity("b")
    folder(tmp_path / "b", ROWS[:1])
    assert identity("a") != identity("b")
    before = identity("a")
    version["lm-eval"] = "0.4.14"
    assert identity("a") != before
    with pytest.raises(UsageError, match="no such folder here, or it is empty"):
        identity("c")


def test_without_lm_eval_the_plan_says_what_to_install(version: dict[str, str]) -> None:
    version.clear()
    for ask in (harness.identity, PLUGIN.load()):
        with pytest.raises(EnvironmentError_, match=r"pip install -c constraints\.txt '\.\[harness\]'"):
            ask(HarnessScience(tasks=("arc_easy",)))


def test_planning_loads_no_code_of_lm_eval_and_datasets_are_what_is_brought(tmp_path: Path) -> None:
    """Its version is read from what pip has written."""
    info = tmp_path / "lm_eval-0.4.13.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lm_eval\nVersion: 0.4.13\n", encoding="utf-8")
    code = f"""if True:
        import sys
        from pathlib import Path
        from orchestrator.plan import make_plan
        from orchestrator.remotes import sources
        from sweeps.language.spec import Overrides
        asked = ("downstream.tasks=[harness]", "harness.tasks=[arc_easy]")
        for more in ((), ("harness.datasets=[allenai/ai2_arc@{COMMIT}]",)):
            plan = make_plan(Path("sweeps/smoke.yaml"), Overrides(sets=asked + more), Path({str(tmp_path)!r}))
            print([source.named for source in sources(plan)])
        print([m for m in ("lm_eval", "datasets", "torch") if m in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    assert done.stdout.splitlines() == ["[]", f"['lm-eval@0.4.13, allenai/ai2_arc@{COMMIT[:12]}']", "[]"], done.stderr


@dataclass
class Part:
    """A dataset of the Hub."""

    label: str
    missing: int
    place: Path = Path("/cache")

    @property
    def complete(self) -> bool:
        return not self.missing

    def missing_bytes(self) -> int:
        return self.missing

    def bring(self, report: Any) -> None:
        report(Brought(done_bytes=self.missing, of_bytes=self.missing))
        self.missing = 0


def test_several_datasets_are_brought_as_one() -> None:
    both: Any = Together([Part("a@1", 3), Part("b@2", 4)])  # type: ignore[list-item]
    seen: list[Brought] = []
    assert (both.label, both.place, both.complete, both.missing_bytes()) == ("a@1, b@2", Path("/cache"), False, 7)
    both.bring(seen.append)
    assert [(b.done_bytes, b.of_bytes) for b in seen] == [(3, 7), (7, 7)]
    assert both.complete and not both.missing_bytes()


def test_documents_become_items_level_by_level(lm_eval: Any) -> None:
    found = items(FOLDER, *LOCAL)
    assert {level: sum(i.level == level for i in found) for level in LOCAL} == dict(zip(LOCAL, (12, 8, 6), strict=True))
    first = found[0]
    assert (first.id, first.prompt, first.shots) == (
        "arc_local-0", "Question: Which of these is an animal?\nAnswer:", "Questions of things around us.\n\n")
    assert (first.answer, sorted(first.distractors)) == (" horse", [" spoon", " stone"])
    assert {len(i.distractors) for i in found if i.level == "arc_local"} == {2, 3, 4}
    pair = next(i for i in found if i.level == "pairs_local")
    assert (pair.prompt, pair.answer) == ("", " The dogs bark at night.")
    ending = next(i for i in found if i.level == "endings_local")
    assert (ending.prompt[-4:], ending.answer) == (" and", " whisks them."), "the context's blank is the choices'"


def test_shots_are_those_of_lm_eval_and_apart_from_the_prompt(
        lm_eval: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    task = lm_eval.TaskManager(include_path=".", include_defaults=False).load(["arc_local"])["tasks"]["arc_local"]
    task.set_config("num_fewshot", 2)
    task.set_fewshot_seed(1234)
    task.build_all_requests()
    found = items(FOLDER, "arc_local", shots=2)
    contexts = dict.fromkeys((i.doc_id, i.args[0]) for i in task.instances)
    assert [i.shots + i.prompt for i in found] == [context for _, context in contexts]
    assert all(i.prompt.startswith("Question:") and i.shots.count("Question:") == 2 for i in found)
    assert {i.shots for i in items(FOLDER, "pairs_local", shots=2)} == {""}, "its definition says 0 shots"


def test_the_first_documents_and_the_pinned_ones(lm_eval: Any) -> None:
    found = items(FOLDER, "arc_local", limit=5)
    assert found == items(FOLDER, "arc_local")[:5] == items(FOLDER, "arc_local", limit=5, count=5, sha256=digest(found))
    with pytest.raises(UsageError, match=r"5 items here, harness\.count says 12"):
        items(FOLDER, "arc_local", limit=5, count=12)
    with pytest.raises(UsageError, match="other items than those"):
        items(FOLDER, "arc_local", sha256=digest(found))


@pytest.mark.parametrize(("fields", "reason"), [
    ({"output_type": "generate_until"}, "is of output_type generate_until; .* gsm8k and humaneval; .* domain_loss"),
    ({"output_type": None}, "output_type"),
    ({"process_results": "x"}, "tells right from wrong by a function of its own"),
    ({"class": "x"}, "is a Python class"), ({"custom_dataset": "x"}, "which nothing pins"),
    ({"doc_to_image": "q"}, "shows pictures"), ({"group": "own", "task": ["one", {"task": "two"}]},
                                               "name those that you mean: one, two"),
    ({"task": "mine", "tag": "own"}, "name those that you mean: mine"), ({"task": "owm"}, "near it: owm"),
    ({"dataset_path": "someone/data", "dataset_kwargs": None}, r"harness\.datasets: \['someone/data@COMMIT'\]"),
    ({"dataset_kwargs": {"data_files": "/etc/hosts"}}, "reads /etc/hosts, which nothing pins"),
    ({"dataset_kwargs": {"data_files": ["../x.jsonl"]}}, r"reads \.\./x\.jsonl"),
    ({"dataset_kwargs": {"data_files": {"test": "https://a.org/x.json"}}}, "reads https"),
    ({"include": "../x.yaml"}, r"includes \.\./x\.yaml, which is not in harness\.folder"),
    ({"doc_to_text": "{{nothing}}"}, "lm-eval cannot build it: UndefinedError"),
    ({"test_split": "none"}, "lm-eval cannot build it: KeyError"),
    ({"dataset_kwargs": {"data_files": {"test": "gone.jsonl"}}}, "lm-eval cannot build it: FileNotFoundError"),
    ({"doc_to_text": "label", "doc_to_target": "q"}, "one continuation of several contexts"),
    ({"doc_to_target": "{{[label]}}"}, r"of its 2 choices \[0\] is right"),
    ({"doc_to_target": "{{label * 2}}"}, "1 of 2 documents .* choices 2 is right"),
    ({"doc_to_target": -1}, "choices -1 is right"), ({"doc_to_target": "maybe"}, "'maybe' is right"),
    ({"doc_to_choice": "{{[a]}}", "doc_to_target": 0}, "of its 1 choices 0 is right; one of several"),
    ({"doc_to_choice": "{{[a, a]}}"}, "2 of 2 documents cannot be asked here, first 0: .*two choices are alike"),
    ({"target_delimiter": ""}, "a choice does not begin with a blank"),
    ({"num_fewshot": 2, "fewshot_split": "test", "test_split": None, "validation_split": "test"},
     "it is among its own shots, answer included"),
])
def test_what_cannot_be_asked_is_refused_with_the_reason(
        fields: Mapping[str, Any], reason: str, lm_eval: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lm_eval.TaskManager, "__init__", _without_its_own(lm_eval.TaskManager.__init__))
    (tmp_path / "x.yaml").write_text("description: x\n", encoding="utf-8")
    with pytest.raises(UsageError, match=reason):
        items(folder(tmp_path / "tasks", **fields))


def _without_its_own(make: Any) -> Any:
    """It takes ten seconds to read all definitions of lm-eval."""
    return lambda self, **given: make(self, **{**given, "include_defaults": False})


def test_documents_that_cannot_be_asked_are_left_out_only_where_that_is_said(lm_eval: Any, tmp_path: Path) -> None:
    place = folder(tmp_path / "tasks", [*ROWS, {"q": "Which?", "a": "this", "b": "this", "label": 0}])
    with pytest.raises(UsageError, match=r"1 of 3 documents .*alike; harness\.unfit: leave_out leaves them out"):
        items(place)
    found = items(place, unfit="leave_out")
    assert [i.id for i in found] == ["own-0", "own-1"]


def test_data_that_cannot_be_read_is_told(lm_eval: Any, tmp_path: Path) -> None:
    (folder(tmp_path / "tasks") / "rows.jsonl").write_text("no JSON", encoding="utf-8")
    with pytest.raises(UsageError, match="lm-eval cannot build it: Dataset"):
        items(tmp_path / "tasks")


@pytest.mark.slow
def test_lm_evals_own_definitions_are_found(lm_eval: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    index = _harness._index(HarnessScience(tasks=("arc_easy",), folder=str(FOLDER)))
    assert index.keys() > set(LOCAL)
    monkeypatch.setattr(_harness, "_index", lambda science: index)  # reading it takes ten seconds
    with pytest.raises(UsageError, match=r"arc_easy: its data is allenai/ai2_arc, .*\['allenai/ai2_arc@COMMIT'\]"):
        items(FOLDER, "arc_easy")
    with pytest.raises(UsageError, match="near it: arc_easy"):
        items(FOLDER, "arc_esay")
    with pytest.raises(UsageError, match="mmlu stands for several tasks; name those that you mean: mmlu_stem"):
        items(FOLDER, "mmlu")


def test_a_dataset_of_the_hub_is_brought_at_its_commit_and_read_without_a_network(
        lm_eval: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its card says which files are which configuration's, as on the Hub."""
    served = tmp_path / "hub"
    folder(served / "easy")
    (served / "easy" / "own.yaml").unlink()
    folder(served / "hard", ROWS[:1])
    configs = [{"config_name": name, "data_files": [{"split": "test", "path": f"{name}/rows.jsonl"}]}
               for name in ("easy", "hard")]
    (served / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n", encoding="utf-8")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    place = folder(tmp_path / "tasks", dataset_path="someone/data", dataset_kwargs={"trust_remote_code": True},
                   dataset_name="easy")
    science = HarnessScience(tasks=("own",), folder=str(place), datasets=(f"someone/data@{COMMIT}",))
    with serving(FakeHub(served)) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                            address + "/{repo_id}/resolve/{revision}/{filename}")
        remote = harness.fetch(science)
        assert not remote.complete and remote.missing_bytes() > 0
        remote.bring()
    assert harness.fetch(science).complete
    monkeypatch.setattr(hub, "HfApi", None)
    found = _harness.items(science)
    assert [(i.prompt, i.answer) for i in found] == [("Is it?", " yes"), ("Was it?", " no")]
