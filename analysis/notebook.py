"""Results in a notebook: `analysis.load(root)`, then one method per table.

    import analysis

    results = analysis.load("store")          # or a bundle, or several stores: analysis.load(["a", "b"])
    results.convergence()                     # a pandas frame; `results.columns("convergence")` says what it holds
    results.tables                            # every table's name and title
    print(results.text())                     # what `orchestrator report` prints
    results.curves, results.scores            # every evaluation and score as tidy frames

Reads only; what it read it keeps, so call `analysis.load` again to see what a running sweep has added.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from os import PathLike
from pathlib import Path

import pandas as pd

from analysis import schema
from analysis.archive import is_archive
from analysis.curve_file import parse_upstream_tokens
from analysis.curves import study_of
from analysis.schema import Column, Columns
from analysis.stores import Roots, read_plan
from analysis.study import Study, study
from analysis.table import Table
from analysis.tables import registry
from sweeps.errors import UsageError, nearest
from sweeps.language.manifest import PlanFile
from sweeps.store.layout import Layout


class Results:
    """A sweep's results. Every table of `tables` is a method that returns it as a frame.

    A table that is added to `analysis/tables/` is a method at once, so type checkers know their form and not their
    names.
    """

    def __init__(self, study: Study) -> None:
        """Use `analysis.load`, or give it any study (of curves, for instance)."""
        self.study = study
        """The comparisons behind the tables: effects, speed-ups, counts."""

    @cached_property
    def _registry(self) -> dict[str, Table]:
        return registry()

    @property
    def tables(self) -> Mapping[str, str]:
        """Name -> title of every table."""
        return {name: table.title for name, table in self._registry.items()}

    def table(self, name: str) -> pd.DataFrame:
        """Return a table.

        Raises:
            UsageError: there is none of this name.
        """
        return self._table(name).build(self.study)

    def columns(self, name: str) -> pd.DataFrame:
        """Return name, dtype, unit and meaning of a table's columns."""
        return columns_of(self._table(name).columns)

    def __getattr__(self, name: str) -> Callable[[], pd.DataFrame]:
        """Return the method of a table."""
        if name.startswith("_") or name not in self._registry:
            raise AttributeError(f"{name}: no such table; {nearest(name, self._registry)}")
        table = self._registry[name]

        def build() -> pd.DataFrame:
            return table.build(self.study)

        build.__name__, build.__doc__ = name, f"Return the table {name!r}: {table.title}."
        return build

    def __dir__(self) -> Iterable[str]:
        """Names for completion, the tables' among them."""
        return [*super().__dir__(), *self._registry]

    def __repr__(self) -> str:
        """Name, protocol, scale, and how much of it is scored."""
        plan, trials = self.study.records.plan, self.trials
        scored = int((trials["status"] == "scored").sum())
        made_up = "SIMULATED, every number is made up; " if self.study.records.simulated else ""
        return f"<Results of {plan.name}: {made_up}{scored} of {len(trials)} trials scored>"

    @property
    def plan(self) -> PlanFile:
        """What was planned."""
        return self.study.records.plan

    @property
    def trials(self) -> pd.DataFrame:
        """One row per planned trial (`analysis.schema.TRIALS`)."""
        return self.study.records.trials

    @property
    def curves(self) -> pd.DataFrame:
        """One row per evaluation (`analysis.schema.CURVES`)."""
        return self.study.records.curves

    @property
    def scores(self) -> pd.DataFrame:
        """One row per score of a trial (`analysis.schema.SCORES`)."""
        return self.study.records.scores

    def text(self, width: int = 80) -> str:
        """Return what `orchestrator report` prints."""
        from analysis.terminal import text_of

        return text_of(self.study, width)

    def _table(self, name: str) -> Table:
        if name not in self._registry:
            raise UsageError(f"{name}: no such table; {nearest(name, self._registry)}")
        return self._registry[name]


def columns_of(columns: Columns) -> pd.DataFrame:
    """Return name, dtype, unit and meaning of columns, as a frame."""
    about = [Column(n, "str", "", "") for n in ("name", "dtype", "unit", "meaning")]
    return schema.frame_of((vars(c) for c in columns), about)


Place = str | PathLike[str]


def load(place: Place | Sequence[Place], name: str = "", *, mixed_protocols: bool = False) -> Results:
    """Return the results of a sweep.

    Args:
        place: a store; several stores, read as one; or a bundle of `orchestrator export`, which is verified.
        name: the sweep; may be left out where there is one.
        mixed_protocols: plans of several protocols or scales may stand beside each other.

    Raises:
        UsageError: there is no such sweep, or it is one of several.
        RecordError: a record or the bundle is damaged.
    """
    places = [Path(p) for p in ([place] if isinstance(place, str | PathLike) else place)]
    if len(places) == 1 and is_archive(places[0]):
        with ExitStack() as kept:
            root, plan = open_bundle(places[0], kept)
            results = Results(study(root, plan.name, plan))
            weakref.finalize(results, kept.pop_all().close)  # some tables look into the records when they are asked for
            return results
    roots: Roots = places
    sweep = name or sweep_in(places, name)
    return Results(study(roots, sweep, read_plan(roots, sweep, mixed=mixed_protocols)))


def load_curves(path: Place, baseline: str = "scratch", upstream_tokens: int | str | None = None) -> Results:
    """Return the results of a file of loss curves, anybody's (`curve_file.py`); every evaluation in it counts.

    Args:
        path: CSV or Parquet with the columns panel, upstream, tokens, val_loss.
        baseline: the upstream that the others are compared with.
        upstream_tokens: of every upstream but the baseline's, such as `164M`, where the file has no such column.

    Raises:
        UsageError: the file cannot be used; everything that is wrong with it at once.
    """
    try:
        tokens = None if upstream_tokens is None else parse_upstream_tokens(upstream_tokens)
    except ValueError as error:
        raise UsageError(f"upstream_tokens {upstream_tokens!r}: {error}") from error
    return Results(study_of(Path(path), baseline, tokens)[0])


def sweep_in(roots: Sequence[Path], name: str) -> str:
    """Return the one sweep of some stores.

    Raises:
        UsageError: they have none, or several.
    """
    known = sorted({path.name for root in roots if (folder := Layout(root).sweeps).is_dir()
                    for path in folder.iterdir() if (path / "plan.json").is_file()})
    if name:
        return name
    if len(known) != 1:
        where = " or ".join(map(str, roots))
        raise UsageError(f"{where} has {'several sweeps' if known else 'no sweep'}: name one; "
                         f"known: {', '.join(known) or 'none'}")
    return known[0]


def open_bundle(archive: Path, kept: ExitStack) -> tuple[Path, PlanFile]:
    """Unpack a bundle for as long as `kept` is open; return its store and the sweep's plan.

    Raises:
        RecordError: it is damaged.
    """
    from analysis.bundle import opened

    root, plan, _ = opened(archive, Path(kept.enter_context(tempfile.TemporaryDirectory())))
    return root, plan
