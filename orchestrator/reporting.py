"""Tables, figures and the report of a sweep, from the records alone."""

from __future__ import annotations

from pathlib import Path

from sweeps.store.layout import Layout


def write_report(store: Layout, name: str, out: Path | None = None, *, width: int = 80) -> tuple[Path, str]:
    """Write the tables and `report.html`; return the page and the text for a terminal."""
    from analysis.report import build_report
    from analysis.tables import write_tables
    from analysis.terminal import terminal_text

    folder = out or store.sweep(name).report
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(store.root, name, folder / "tables")
    page = build_report(store.root, name, folder)
    return page, terminal_text(store.root, name, width=width)
