"""Executors and profiles by name; wrong names and options are refused with what is known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import registry
from cluster.executors.local import LocalExecutor
from cluster.executors.memory import MemoryExecutor
from orchestrator.arguments import PROFILES
from sweeps.errors import SweepFileError, UsageError


def test_executors_by_file_name(tmp_path: Path) -> None:
    assert {"local", "memory"} <= set(registry.names())
    assert not any(name.startswith("_") for name in registry.names())
    assert registry.make("local", folder=tmp_path, options={"slots": 3}).slots_free() == 3
    assert isinstance(registry.make("local", folder=tmp_path, options={}), LocalExecutor)
    assert isinstance(registry.make("memory", folder=tmp_path, options={"seconds": 1.5}), MemoryExecutor)


@pytest.mark.parametrize(("name", "options", "message"), [
    ("lokal", {}, "unknown executor 'lokal'; known: .*Did you mean 'local'"),
    ("local", {"slot": 2}, "executor local: slot: unknown key; known: .*Did you mean 'slots'"),
    ("local", {"slots": 0}, "executor local: slots = 0: .*greater than 0"),
])
def test_what_is_refused(tmp_path: Path, name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        registry.make(name, folder=tmp_path, options=options)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a person's own profiles."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "orchestrator" / "clusters"
    folder.mkdir(parents=True)
    return folder


def test_a_profile_is_a_path_or_a_name_and_ones_own_goes_before_a_shipped_one(own: Path, tmp_path: Path) -> None:
    assert registry.load("local").place == str(registry.SHIPPED / "local.yaml")
    for folder, slots in ((own, 3), (tmp_path, 4)):
        (folder / "local.yaml").write_text(f"executor: local\nslots: {slots}\n")
    assert registry.load("local").options.slots == 3
    assert registry.load(str(tmp_path / "local.yaml")).options.slots == 4
    assert registry.load("local", {"slots": 5}).options.slots == 5
    assert registry.load("memory").place == "memory", "an executor's own name is a profile without options"


def test_own_profiles_lie_in_config_unless_the_variable_is_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert registry.own_folder() == Path.home() / ".config" / "orchestrator" / "clusters"


@pytest.mark.parametrize(("name", "message"), [
    ("lokal", "no lokal.yaml in .*/config/orchestrator/clusters and none is shipped.*Did you mean 'local'"),
    ("mien", "Did you mean 'mine'"), ("/no/mine.yaml", "/no/mine.yaml is no file.*Did you mean 'mine'"),
])
def test_a_profile_that_is_nowhere(own: Path, name: str, message: str) -> None:
    (own / "mine.yaml").write_text("executor: local\n")
    with pytest.raises(UsageError, match=f"no cluster profile '{name}'.*{message}"):
        registry.load(name)


@pytest.mark.parametrize(("text", "message"), [
    ("", ": file: is empty; a cluster profile has at least the key executor"),
    ("slots: 2\n", ":1: executor: this key is missing; write the name of an executor: local, memory, slurm"),
    ("slots: 2\nexecutor: slrm\n", ":2: executor = 'slrm': known: local, memory, slurm. Did you mean 'slurm'"),
])
def test_a_profile_without_a_known_executor(own: Path, text: str, message: str) -> None:
    (own / "mine.yaml").write_text(text)
    with pytest.raises(SweepFileError, match=f"mine.yaml{message}"):
        registry.load("mine")


def test_the_help_of_cluster_names_the_shipped_profiles() -> None:
    assert PROFILES.endswith(": " + ", ".join(sorted(p.stem for p in registry.SHIPPED.glob("*.yaml"))))


def test_naming_executors_loads_none_of_them() -> None:
    code = "import json, sys, cluster.registry as r; r.names(); print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    loaded = set(json.loads(out))
    assert not {"submitit", "torch", "ray", "numpy", "cluster.executors.local", "cluster.executors.slurm"} & loaded
