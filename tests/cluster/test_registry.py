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
from sweeps.errors import UsageError


def test_executors_by_file_name(tmp_path: Path) -> None:
    assert {"local", "memory"} <= set(registry.names())
    assert not any(name.startswith("_") for name in registry.names())
    assert registry.make("local", folder=tmp_path, options={"slots": 3}).slots_free() == 3
    assert isinstance(registry.make("local", folder=tmp_path, options={}), LocalExecutor)
    assert isinstance(registry.make("memory", folder=tmp_path, options={"seconds": 1.5}), MemoryExecutor)


@pytest.mark.parametrize(("name", "options", "message"), [
    ("lokal", {}, "unknown executor 'lokal'; known: .*Did you mean 'local'"),
    ("local", {"slot": 2}, "unknown option 'slot'; known: .*Did you mean 'slots'"),
    ("local", {"slots": 0}, "slots = 0: .*greater than 0"),
])
def test_what_is_refused(tmp_path: Path, name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        registry.make(name, folder=tmp_path, options=options)


def test_profiles(tmp_path: Path) -> None:
    assert registry.profile_path("local").read_text().splitlines()[1] == "executor: local"
    mine = tmp_path / "mine.yaml"
    mine.write_text("executor: local\n")
    assert registry.profile_path(str(mine)) == mine
    with pytest.raises(UsageError, match="no cluster profile 'lokal'.*known: .*local"):
        registry.profile_path("lokal")


def test_naming_executors_loads_none_of_them() -> None:
    code = "import json, sys, cluster.registry as r; r.names(); print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    loaded = set(json.loads(out))
    assert not {"submitit", "torch", "ray", "numpy", "cluster.executors.local", "cluster.executors.slurm"} & loaded
