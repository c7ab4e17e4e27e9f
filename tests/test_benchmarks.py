"""Every benchmark runs, at its smallest size, and prints the figures that it documents. A new file is found by itself.

Speed is asserted nowhere: only that no benchmark rots unseen.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report import flat

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks"
BENCHMARKS = sorted(path.stem for path in FOLDER.glob("*.py") if "\ndef main(" in path.read_text(encoding="utf-8"))
FIGURES = re.compile(r"^    (\w+(?:, \w+)*)  +\S", re.MULTILINE)
"""A line of the table in a benchmark's docstring: names of figures, two spaces at least, what they are."""
PRIVATE_SLURM = {"slurm": (pytest.mark.slurm, pytest.mark.proof)}
IN_CI = {"cli", "downstream", "generator", "records", "store", "text", "training"}
"""Those of a few seconds; the others, about a minute each, run in `make proofs`."""


def module(name: str) -> ast.Module:
    return ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))


def documentation(name: str) -> str:
    return ast.get_docstring(module(name), clean=False) or ""


def documented(name: str) -> set[str]:
    return {figure for line in FIGURES.findall(documentation(name)) for figure in line.split(", ")}


def smallest(name: str) -> tuple[str, ...]:
    """The module's `SMALLEST`, without importing what it imports."""
    found = {node.targets[0].id: node.value for node in module(name).body
             if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}
    return tuple(ast.literal_eval(found["SMALLEST"]))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_states_its_command_its_figures_and_its_smallest_size(name: str) -> None:
    assert f"\n    python -m benchmarks.{name} " in documentation(name)
    assert documented(name) and smallest(name)
    assert f"python -m benchmarks.{name}" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [
    pytest.param(name, marks=PRIVATE_SLURM.get(name, () if name in IN_CI else pytest.mark.proof))
    for name in BENCHMARKS])
def test_a_benchmark_runs_and_prints_the_figures_that_it_documents(name: str) -> None:
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--json", *smallest(name)], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    printed = dict(flat(json.loads(done.stdout)))
    assert {name.rpartition(".")[2] for name in printed} - {"machine"} == documented(name)
