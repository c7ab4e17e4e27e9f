"""Tables, figures and the report of a sweep, from the records alone."""

from __future__ import annotations

from pathlib import Path

from orchestrator.choices import table
from sweeps.language.manifest import PlanFile
from sweeps.store import files
from sweeps.store.layout import Layout


def write_report(store: Layout, name: str, out: Path | None = None, plan: PlanFile | None = None) -> tuple[Path, str]:
    """Write the tables and `report.html`; return the page and the text for a terminal of 80 columns.

    Args:
        store: the store.
        name: the sweep.
        out: where to write (default: the sweep's own folder).
        plan: another plan than the stored one, for instance a part of the grid.
    """
    from analysis.load import read_plan
    from analysis.report import build_report
    from analysis.study import study
    from analysis.tables import write_tables
    from analysis.terminal import text_of

    folder = out or store.sweep(name).report
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.rglob(".*"):  # half-written by a controller that was killed
        left.unlink()
    if search := (plan or read_plan(store.root, name)).search:  # it compares no arms
        page, text = folder / "choices.txt", "\n".join(table(store, search))
        files.replace(page, text + "\n")
        return page, text
    found = study(store.root, name, plan)
    write_tables(store.root, name, folder / "tables", found)
    return build_report(store.root, name, folder, found), text_of(found)
