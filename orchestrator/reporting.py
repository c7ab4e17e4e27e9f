"""Tables, figures and the report of a sweep, from the records alone."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sweeps.language.manifest import PlanFile
from sweeps.store import files
from sweeps.store.layout import Layout


def write_report(
    stores: Sequence[Layout], name: str, out: Path | None = None, plan: PlanFile | None = None, *,
    overlay: bool = False, drawn: bool = False,
) -> tuple[Path, str]:
    """Write the tables and `report.html`; return the page and the text for a terminal of 80 columns.

    Args:
        stores: one or several, read as one; the first has the sweep.
        name: the sweep.
        out: where to write (default: the sweep's own folder).
        plan: another plan than the stored one, for instance a part of the grid.
        overlay: figures show the published results underneath.
        drawn: write the figures as SVG, PDF and PNG; the page's lie beside it as SVG in any case.
    """
    with _uncollected():
        return _write(stores, name, out, plan, overlay=overlay, drawn=drawn)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold the collector of cycles: a large sweep's report makes a million objects that stay, and hardly a cycle.

    At the process's end, too, it would look through all that is left: a tenth of a large sweep's report.
    """
    was = gc.isenabled()
    gc.disable()
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        if was:
            gc.enable()


def _write(
    stores: Sequence[Layout], name: str, out: Path | None, plan: PlanFile | None, *, overlay: bool, drawn: bool
) -> tuple[Path, str]:
    from analysis.load import read_plan
    from analysis.report import build_report
    from analysis.study import study
    from analysis.tables import write_tables
    from analysis.terminal import text_of

    store, roots = stores[0], [s.root for s in stores]
    folder = out or store.sweep(name).report
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.rglob(".*"):  # half-written by a controller that was killed
        left.unlink()
    plan = plan or read_plan(store.root, name)
    found = replace(study(roots, name, plan), overlay=overlay)
    write_tables(store.root, name, folder / "tables", found)
    if plan.search:  # it compares no arms
        from orchestrator.choices import table

        page, text = folder / "choices.txt", "\n".join(table(store, plan.search))
        files.renew(page, text + "\n")
        return page, text
    return build_report(store.root, name, folder, found, drawn=drawn), text_of(found)
