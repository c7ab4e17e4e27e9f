"""Make the picture of a table as LaTeX sets it, from a finished sweep.

    python docs/images/make_table_picture.py complexity_by_domain docs/images/table.png --root STORE

Needs pdflatex with booktabs (Debian: texlive-latex-recommended) and pdftoppm (poppler-utils). The LaTeX is what
`orchestrator table NAME SWEEP --format latex` prints; columns are chosen, since a picture is not 20 columns wide.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from analysis.study import study
from analysis.table import to_latex
from analysis.tables import registry

COLUMNS = "domain,arm,learned,seeds,gain_nats,low,high,largest_mean,lead_low"
DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs}
\begin{document}
\setbox0=\hbox{%s}
\pdfhorigin=6pt \pdfvorigin=6pt \pdfpagewidth=\dimexpr\wd0+12pt\relax \pdfpageheight=\dimexpr\ht0+\dp0+12pt\relax
\shipout\vbox{\box0}
\end{document}
"""
"""A page as large as the table."""
DPI = 160


def latex(root: Path, sweep: str, name: str, columns: list[str]) -> str:
    """Return some columns of a sweep's table as a LaTeX document."""
    table = registry()[name]
    whole = table.build(study(root, sweep))
    kept, best = tuple(c for c in table.columns if c.name in columns), list(table.best(whole))
    shown = replace(table, columns=kept, best=lambda frame: [(row, c) for row, c in best if c in frame.columns])
    return DOCUMENT % to_latex(shown, whole[[c.name for c in kept]]).strip()


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", help="a finished sweep's name")
    parser.add_argument("out", type=Path, help="the .png to write")
    parser.add_argument("--root", type=Path, default=Path("store"), help="the store")
    parser.add_argument("--table", default="complexity_by_domain", help="which table")
    parser.add_argument("--columns", default=COLUMNS, help="which of its columns, by comma")
    given = parser.parse_args()
    text = latex(given.root, given.sweep, given.table, given.columns.split(","))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "table.tex").write_text(text, encoding="utf-8")
        for command in (["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
                        ["pdftoppm", "-png", "-singlefile", "-r", str(DPI), "table.pdf", "table"]):
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        given.out.write_bytes((Path(folder) / "table.png").read_bytes())


if __name__ == "__main__":
    main()
