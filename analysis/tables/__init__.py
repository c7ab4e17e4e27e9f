"""Tables. The folder is the registry: each file exports `PLUGIN = Table(...)`, and its name is the table's name."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from analysis.study import Study, study
from analysis.table import Table, write
from sweeps.language.manifest import PlanFile


def registry() -> dict[str, Table]:
    """Return name -> table for every file in this folder."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").PLUGIN for name in names}


OF_SEARCHES = ("cost", "departures", "search")
"""Tables of a search: it compares no arms, and what it does not run is not missing."""


def tables_of(plan: PlanFile) -> dict[str, Table]:
    """Return the tables that a sweep has."""
    every = registry()
    return every if plan.search is None else {name: every[name] for name in OF_SEARCHES}


def write_tables(root: Path, name: str, out: Path, found: Study | None = None) -> list[Path]:
    """Write every table of a sweep as CSV and Markdown into `out`; return the paths.

    All but `cost` have the same bytes whenever the same records come from another run.
    """
    found = found or study(root, name)
    return write(tables_of(found.records.plan), found, out)
