"""`import analysis; analysis.load(root).convergence()`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.study import Study
from analysis.tables import registry
from sweeps.errors import UsageError
from tests.analysis.conftest import SweepBuilder


def test_every_table_is_a_method_that_says_what_it_is(demo: Path, demo_study: Study) -> None:
    results = analysis.load(demo)
    assert set(results.tables) == set(registry()) <= set(dir(results))
    for name, title in results.tables.items():
        method = getattr(results, name)
        pd.testing.assert_frame_equal(method(), registry()[name].build(demo_study))
        assert title in method.__doc__ and method.__name__ == name
        assert list(results.columns(name)["name"]) == list(results.table(name).columns)
    assert "15 of" not in repr(results) and "45 of 45 trials scored" in repr(results)
    assert results.text().startswith("demo:") and len(results.curves) and len(results.scores)


def test_a_name_that_is_no_table_names_the_nearest(demo: Path) -> None:
    results = analysis.load(str(demo), "demo")
    with pytest.raises(AttributeError, match="Did you mean 'convergence'"):
        results.convergance()
    with pytest.raises(UsageError, match="Did you mean 'convergence'"):
        results.table("convergance")
    assert not hasattr(results, "_repr_html_"), "what a notebook asks of every object"


def test_one_of_several_sweeps_has_to_be_named(demo: Path, tmp_path: Path) -> None:
    root = shutil.copytree(demo, tmp_path / "store")
    shutil.copytree(root / "sweeps" / "demo", root / "sweeps" / "other")
    with pytest.raises(UsageError, match="several sweeps: name one; known: demo, other"):
        analysis.load(root)
    with pytest.raises(UsageError, match="no sweep"):
        analysis.load(tmp_path / "nothing")
    assert analysis.load(root, "other").plan.name == "demo"


def test_several_stores_are_one(tmp_path: Path) -> None:
    roots = [SweepBuilder(tmp_path / n, domains=("web",), seeds=1 + i).build() for i, n in enumerate("ab")]
    assert len(analysis.load(roots).trials) == 10


def test_curves_of_a_file_have_the_same_tables() -> None:
    path = Path(analysis.__file__).parent / "published_owt_curves.csv"
    found = analysis.load_curves(path, upstream_tokens="164M").convergence().set_index("arm")
    assert found.loc["nca", "gain_percent"] == pytest.approx(5.729, abs=5e-4)
    with pytest.raises(UsageError, match="upstream_tokens 'many'"):
        analysis.load_curves(path, upstream_tokens="many")


def test_the_notebook_of_the_documentation_runs() -> None:
    """Its cells, one after another, on what is here; the outputs that it shows were made by running it once."""
    root = Path(__file__).parent.parent.parent
    cells = json.loads((root / "docs" / "results.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    assert code and all(c["execution_count"] for c in cells if c["cell_type"] == "code"), "an executed one"
    assert not any(o["output_type"] == "error" for c in cells for o in c.get("outputs", ()))
    environment = {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, check=False,
                          cwd=root / "docs", env=environment)
    assert done.returncode == 0, done.stderr


def test_the_function_stays_whatever_is_imported_later(demo: Path) -> None:
    code = ("import analysis\nfrom analysis.load import Records\nimport analysis.load\nimport analysis.study\n"
            f"print(len(analysis.load({str(demo)!r}).trials), Records.__name__)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parent.parent.parent)
    assert done.stdout.split() == ["45", "Records"]
