"""The folder is the registry, and a person's own files join it or are refused with file, line and reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.errors import UsageError
from workloads.registry import FAMILIES, load_registries

HEAVY = {"torch", "numpy", "ray", "numba", "tokenizers", "transformers", "pandas"}
SECONDS = 0.6
"""Of processor time, a tripwire: 50 files took 0.13 alone and 0.18 beside other tests."""

GOOD = """
from sweeps.language.plugins import Science, Task
class Fields(Science):
    size: int = 1
def measure():
    return 42
PLUGIN = Task(science=Fields, revision=1, implementation=":measure")
"""


def write(path: Path, text: str) -> Path:
    """Write a plug-in file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_file_is_found_under_its_name() -> None:
    registries = load_registries()
    folder = Path(sys.modules["workloads.registry"].__file__ or "").parent
    for family in FAMILIES:
        keys = {p.stem for p in (folder / family).glob("*.py")}
        keys |= {p.parent.name for p in (folder / family).glob("*/__init__.py")}
        assert set(getattr(registries, family)) == {k for k in keys if not k.startswith("_")}
    assert "rules" in registries.stages


def test_loading_is_light_and_fast() -> None:
    code = (
        "import json, sys, time; import sweeps.language.stage, workloads.registry as r\n"
        "t = time.process_time(); r.load_registries()\n"
        "print(json.dumps([time.process_time() - t, sorted(sys.modules)]))"
    )
    best = 9.0
    for _ in range(3):
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
        seconds, modules = json.loads(out)
        assert not HEAVY & set(modules)
        best = min(best, seconds)
    assert best < SECONDS


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    registries = load_registries([write(tmp_path / "mine.py", GOOD)])
    assert registries.tasks.find("mine").load()() == 42
    assert registries.tasks.find("mine").implementation.startswith("_plugin_")


def test_an_edited_file_is_loaded_anew_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", GOOD)
    first, again = (load_registries([path]).tasks["mine"].science for _ in range(2))
    assert first is again
    write(path, GOOD.replace("42", "43"))
    assert load_registries([path]).tasks["mine"].load()() == 43


def test_a_folder_of_files_and_packages(tmp_path: Path) -> None:
    write(tmp_path / "a.py", GOOD)
    write(tmp_path / "_helper.py", "raise ValueError")
    write(tmp_path / "b" / "__init__.py", GOOD.replace('":measure"', '".heavy:measure"'))
    write(tmp_path / "b" / "heavy.py", "def measure():\n    return 7\n")
    registries = load_registries([tmp_path])
    assert registries.tasks["a"].load()() == 42
    assert registries.tasks["b"].load()() == 7
    assert load_registries([tmp_path / "b"]).tasks["b"].load()() == 7


@pytest.mark.parametrize(("text", "line", "reason"), [
    ("x = 1\ndef (:\n", 2, "SyntaxError: invalid syntax"),
    ("x = 1\n\nimport no_such_module_here\n", 3, "ModuleNotFoundError: No module named 'no_such_module_here'"),
    ("x = 1\n", 1, "exports no PLUGIN"),
    ("\nPLUGIN = 3\n", 2, "PLUGIN is a int"),
    (GOOD.replace(', implementation=":measure"', ""), 7, "has no implementation"),
    (GOOD.replace(":measure", ":measured"), 7, "names nothing that can be called"),
    (GOOD.replace(":measure", "measure"), 7, "not of the form module:attribute"),
    (GOOD.replace("science=Fields", "science=int"), 7, "science must be a subclass"),
    (GOOD.replace("revision=1, ", ""), 7, "TypeError: .*revision"),
    (GOOD.replace("Task", "Upstream").replace(':measure"', ':measure", corpus="siez"'), 7,
     "corpus names no field of its; .*Did you mean 'size'"),
])
def test_a_broken_file_is_named_with_line_and_reason(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = write(tmp_path / "mine.py", text)
    with pytest.raises(UsageError, match=rf"mine\.py:{line}: .*{reason}"):
        load_registries([path])


def test_what_cannot_be_a_plug_in(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no .py file and no folder"):
        load_registries([tmp_path / "missing.py"])
    with pytest.raises(UsageError, match="holds no .py file"):
        load_registries([tmp_path])
    with pytest.raises(UsageError, match="cannot be a key"):
        load_registries([write(tmp_path / "my-task.py", GOOD)])
    rules = write(tmp_path / "x" / "rules.py", GOOD.replace("Task", "StageKind"))
    with pytest.raises(UsageError, match="'rules' is taken in stages"):
        load_registries([rules])
