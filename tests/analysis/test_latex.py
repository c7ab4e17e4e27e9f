"""Every table compiles with booktabs, whatever its names hold."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.load import load
from analysis.study import Study
from analysis.table import to_latex
from analysis.tables import registry
from tests.analysis.conftest import ARMS, SCRATCH, Arm, SweepBuilder

HOSTILE = Arm(name="50% & $x^2$ \\input{~/x} #1 {_} <|>", upstream="nca", complexity="30-45", gain=0.2)
DOMAINS = ("[web]", "*x", "\u4e2d\u202e\u00e9")
"""Names that the end of the row before them would take for its arguments, and letters that few fonts have."""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex and booktabs (texlive-latex-recommended)")
def test_every_table_compiles(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path / "store", arms=(SCRATCH, HOSTILE, ARMS[4]), domains=DOMAINS).build()
    study = Study(load(root, "demo"))
    made = {name: to_latex(table, table.build(study)) for name, table in registry().items()}
    assert r"\textbf{" in made["complexity_by_domain"], "the best one, whose lead is resolved"
    pages = [rf"\section*{{\detokenize{{{name}}}}}\resizebox{{\linewidth}}{{!}}{{{text}}}\clearpage"
             for name, text in sorted(made.items())]
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "all.tex").write_text("\n".join([head, *pages, r"\end{document}", ""]), encoding="utf-8")
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"], cwd=tmp_path,
                          capture_output=True, text=True, check=False, timeout=100, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
