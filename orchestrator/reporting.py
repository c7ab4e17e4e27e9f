"""Tables, figures and the report of a sweep, from the records alone."""

from __future__ import annotations

from pathlib import Path

from sweeps.store.layout import Layout


def write_report(store: Layout, name: str, out: Path | None = None, *, width: int = 80) -> tuple[Path, str]:
    """Write the tables and `report.html`; return the page and the text for a terminal."""
    from analysis import report, tables, terminal

    folder = out or store.sweep(name).report
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_tables(store.root, name, folder / "tables")
    page = report.build_report(store.root, name, folder)
    return page, terminal.terminal_text(store.root, name, width=width)
