"""The copy of the code that jobs run: made once per content, whole, and out of reach of whoever edits the checkout."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.snapshot import CHANGES, packages, take, with_snapshot
from sweeps.errors import UsageError
from sweeps.store.files import read_json
from tests.orchestrator.plans import planned
from workloads.provenance import SNAPSHOT, origin
from workloads.registry import load_registries

STAGE = """
from pathlib import Path

from sweeps.language.plugins import Science, StageKind


class ToyScience(Science):
    pass


def run(context):
    return {"data": float((Path(__file__).parent / "data.txt").read_text())}


PLUGIN = StageKind(science=ToyScience, revision=1, implementation=":run")
"""


def checkout(tmp_path: Path) -> dict[str, Path]:
    """A package of two files."""
    package = tmp_path / "checkout" / "pack"
    (package / "inner" / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "one.py").write_text("X = 1\n")
    (package / "inner" / "table.yaml").write_text("a: 1\n")
    (package / "inner" / "__pycache__" / "one.pyc").write_text("")
    (package / "inner" / ".one.py.swp").write_text("")
    return {"pack": package}


def test_code_is_copied_once_per_content_and_never_changed(tmp_path: Path) -> None:
    sources = checkout(tmp_path)
    first = take(tmp_path / "code", [], sources)
    copied = {str(p.relative_to(first.path)) for p in first.path.rglob("*") if p.is_file()}
    assert copied == {"pack/__init__.py", "pack/inner/one.py", "pack/inner/table.yaml", SNAPSHOT}
    (sources["pack"] / "inner" / "__pycache__" / "two.pyc").write_text("")
    assert take(tmp_path / "code", [], sources) == first
    (sources["pack"] / "inner" / "one.py").write_text("X = 2\n")
    second = take(tmp_path / "code", [], sources)
    assert second.path != first.path
    assert (first.path / "pack" / "inner" / "one.py").read_text() == "X = 1\n"
    assert (second.path / "pack" / "inner" / "one.py").read_text() == "X = 2\n"
    assert sorted(p.name for p in (tmp_path / "code").iterdir()) == sorted([first.path.name, second.path.name])


def test_a_snapshot_that_was_altered_is_made_again(tmp_path: Path) -> None:
    sources = checkout(tmp_path)
    first = take(tmp_path / "code", [], sources)
    (first.path / "pack" / "inner" / "one.py").write_text("")
    again = take(tmp_path / "code", [], sources)
    assert again == first
    assert (again.path / "pack" / "inner" / "one.py").read_text() == "X = 1\n"


def test_nothing_half_made_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(path: Path, target: Path) -> None:
        raise OSError("no links here")

    plugin = tmp_path / "mine" / "toy.py"
    plugin.parent.mkdir()
    plugin.write_text(STAGE)
    (plugin.parent / "data.txt").write_text("1")
    monkeypatch.setattr(Path, "symlink_to", no_link)
    with pytest.raises(OSError, match="no links here"):
        take(tmp_path / "code", [plugin], checkout(tmp_path))
    assert list((tmp_path / "code").iterdir()) == []


def test_plugins_are_copied_and_find_their_data(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "many" / "big").mkdir(parents=True)
    (mine / "many" / "huge").mkdir()
    for path in (mine / "toy.py", mine / "many" / "other.py", mine / "many" / "big" / "__init__.py"):
        path.write_text(STAGE)
    for folder in (mine, mine / "many", mine / "many" / "big"):
        (folder / "data.txt").write_text("7")
    taken = take(tmp_path / "code", [mine / "toy.py", mine / "many"], checkout(tmp_path))
    assert not (taken.path / "plugins" / "1" / "many" / "other.py").is_symlink()
    assert (taken.path / "plugins" / "1" / "many" / "huge").is_symlink()
    for path in (mine / "toy.py", mine / "many" / "other.py", mine / "many" / "big" / "__init__.py"):
        path.write_text("edited in the middle of a sweep\n")
    stages = load_registries(taken.plugins).stages
    assert [stages.find(k).load()(None) for k in ("toy", "other", "big")] == [{"data": 7.0}] * 3


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_commit_and_the_changes_of_tracked_files_are_kept(tmp_path: Path) -> None:
    sources = checkout(tmp_path)
    package, top = sources["pack"], tmp_path / "checkout"
    (top / "notes").write_text("a")
    git(top, "init", "-q")
    git(top, "add", "notes", "pack/__init__.py", "pack/inner/one.py")
    git(top, "commit", "-qm", "x")
    (package / "inner" / "one.py").write_text("X = 'edited'\n")
    (package / "secret.py").write_text("KEY = 'hidden'\n")
    (top / "notes").write_text("private")
    taken = take(tmp_path / "code", [], sources)
    assert origin(taken.path) == {"commit": git(top, "rev-parse", "HEAD").strip(), "code": taken.path.name}
    changes = taken.path / CHANGES
    assert "+X = 'edited'" in changes.read_text()
    assert not any(word in changes.read_text() for word in ("hidden", "private"))
    assert stat.S_IMODE(changes.stat().st_mode) == 0o600
    assert stat.S_IMODE(taken.path.stat().st_mode) == 0o700


def test_installed_packages_have_no_commit_even_inside_a_checkout(tmp_path: Path) -> None:
    sources = checkout(tmp_path)
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-qm", "x", "--allow-empty")
    taken = take(tmp_path / "code", [], sources)
    assert read_json(taken.path / SNAPSHOT)["commit"] == ""
    assert not (taken.path / CHANGES).exists()


def test_a_job_imports_the_copy_and_nothing_else_of_this_project(tmp_path: Path) -> None:
    plan = with_snapshot(planned(tmp_path))
    code = ("import sys, cluster.launch, cluster.executors._slurm_job, workloads.run, workloads.registry as r\n"
            "r.load_registries()\n"
            f"ours = [m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in {sorted(packages())!r}]\n"
            "print('\\n'.join(ours))")
    found = subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True, cwd="/",
                           env={**os.environ, **plan.job_environment}).stdout.split()
    folder = plan.layout.sweep(plan.sweep.name).code
    assert len(found) > 20
    assert all(path.startswith(f"{folder}/") for path in found)


def test_the_own_python_path_stays_behind_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine:/too")
    first, rest = with_snapshot(planned(tmp_path)).job_environment["PYTHONPATH"].split(":", 1)
    assert (Path(first) / "workloads" / "run.py").is_file()
    assert rest == "/mine:/too"


def test_a_root_that_no_python_path_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="use another --root"):
        with_snapshot(planned(tmp_path / "a:b"))
