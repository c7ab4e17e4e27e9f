"""One self-contained page about a sweep: no network, under 2 MB, light and dark, fit to print; whole without script.

What grows with the sweep is bounded: rows of a table, points of curves, stages behind numbers, bytes of drawings.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from analysis import figures, tables
from analysis.behind import behind, key_of
from analysis.claims import judge
from analysis.drawing import Drawing
from analysis.drawn import Drawn
from analysis.explorer import curve_data
from analysis.schema import Column
from analysis.study import Study, once, study
from analysis.summary import verdict_sentences
from analysis.table import cell, write
from analysis.tables.convergence import bits_per_byte
from analysis.wording import count, interval, parameters, plain
from sweeps.store import files
from sweeps.store.layout import Layout
from sweeps.store.ledger import fold, read_events

MOST_ROWS = 400
"""Rows of one table on the page; the rest is in its CSV."""
MOST_VALUES = 15_000
"""Of all tables together: about 400 kB. A page with more has fewer rows of each."""
MOST_DRAWN = 550_000
"""Bytes of all drawings on the page, dealt in rounds: the first of each figure, then the second of each."""
MOST_FILES = 48
"""Drawings that are also written as files, in the same order."""
_HERE = Path(__file__).parent
_COLUMNS = {
    "convergence": ("domain", "arm", "learned", "seeds", "censored", "at_first", "speedup_low", "speedup_high",
                    "speedup", "charged_speedup", "flop_charged_speedup", "speedup_note"),
    "controls": ("domain", "arm", "control", "learned", "control_learned", "seeds", "difference", "low", "high",
                 "detectable_nats", "reading"),
    "inference": ("domain", "arm", "seeds", "gain_nats", "low", "high", "p", "least_p", "detectable_nats", "small",
                  "small_power"),
    "scaling": ("domain", "arm", "seeds", "alpha", "alpha_low", "alpha_high", "alpha_note", "slope", "data", "data_low",
                "data_high", "data_note"),
    "complexity_by_domain": ("domain", "arm", "note", "learned", "seeds", "gain_nats", "low", "high", "detectable_nats",
                             "largest_mean", "lead_nats", "lead_low", "lead_high"),
}
"""What the page shows of a table; the whole of it is in its CSV."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """One column's head."""

    name: str
    unit: str = ""
    meaning: str = ""
    number: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table as the page shows it."""

    name: str
    title: str
    heads: Sequence[Head]
    rows: Sequence[Sequence[str]]
    left_out: int = 0
    empty: str = "Nothing to show yet."
    links: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """(row, column) -> key of the element that tells more."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A figure as the page shows it."""

    name: str
    title: str
    caption: str
    drawings: Sequence[tuple[str, Markup]]
    """Titles and <svg> elements."""
    left_out: Sequence[str] = ()
    """Names of drawings that would make the page too large."""


def build_report(root: Path, name: str, out: Path, found: Study | None = None, *, drawn: bool = False) -> Path:
    """Write `<out>/report.html` about a sweep; return its path. Works while the sweep runs.

    The page's drawings lie beside it as SVG in `figures/`; `drawn`: `MOST_FILES` of them in every format.
    """
    found = found or study(root, name)
    return _write(found, out, _sweep_file(root, name), _ends(root, found), drawn=drawn)


def curves_report(found: Study, out: Path) -> Path:
    """Write `<out>/report.html`, its tables and its figures about curves of a file; return the page's path."""
    write(tables.registry(), found, out / "tables")
    return _write(found, out, drawn=True)


def _write(found: Study, out: Path, sweep_file: str = "", ends: Grid | None = None, *, drawn: bool) -> Path:
    kept = Drawn(out / "figures")
    files.renew(out / "report.html", page(found, sweep_file, ends, kept))
    if drawn:
        kept.write([drawing for _, drawing in itertools.islice(_dealt(_drawings(found)), MOST_FILES)])
    kept.save()
    return out / "report.html"


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    ).get_template("report.html.j2")


def page(found: Study, sweep_file: str = "", ends: Grid | None = None, kept: Drawn | None = None) -> str:
    """Return the page of a study.

    Args:
        found: the study.
        sweep_file: its text.
        ends: how attempts without a result ended, which is no result.
        kept: where its drawings lie, and may lie already.
    """
    made = {name: once(table.build)(found) for name, table in tables.registry().items()}
    drawn, told, curves = _drawings(found), behind(found), curve_data(found)
    style, script = ((_HERE / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    grids = _fitting_grids({
        "main": _main(found, {cell.key for cell in told}), "bands": _grid("complexity_by_domain", made),
        "speedup": _grid("convergence", _treated(found, made)), "stages": _stages(found),
        "ends": ends or _ends_grid([]), **{n: _grid(n, made) for n in (
            "controls", "by_field", "inference", "scaling", "upstream_gate", "upstream_gate_by_place", "probes",
            "downstream_in_short", "published", "missing", "cost", "departures")}})
    return _template().render(
        plan=found.records.plan, body=parameters(found.records.plan.body_parameters), sweep_file=sweep_file,
        style=style, script=script, hashes={"style": _hash(style), "script": _hash(script)},
        scored=int((found.records.trials["status"] == "scored").sum()),
        sentences=verdict_sentences(found, claims=False),
        departing=f"departures: {count(len(found.records.plan.departures), 'field')}",
        reference=found.reference, claims=judge(found), wording=interval, named=found.named,
        figures=_fitting(drawn, kept or Drawn()), curves=curves.data, curves_left_out=curves.left_out,
        absent=[{"title": p.title, "why": p.absent} for n, p in figures.registry().items() if not drawn[n]],
        behind=told, cells=len(found.cells), most_files=MOST_FILES, **grids,
    )


def _hash(text: str) -> str:
    """Return how a content security policy names an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@once
def _drawings(found: Study) -> dict[str, list[Drawing]]:
    return {name: list(plugin.build(found)) for name, plugin in figures.registry().items()}


def _dealt(drawn: Mapping[str, Sequence[Drawing]]) -> Iterator[tuple[str, Drawing]]:
    """Yield the first drawing of each figure, then the second of each, and so on."""
    for round_ in itertools.zip_longest(*drawn.values()):
        yield from ((name, drawing) for name, drawing in zip(drawn, round_, strict=True) if drawing is not None)


def _fitting(drawn: Mapping[str, Sequence[Drawing]], kept: Drawn) -> list[Shown]:
    """Return the figures that have drawings, with the first ones up to `MOST_DRAWN` bytes.

    After the first that has no room nothing more is drawn of a figure: most would have none either.
    """
    room, full = MOST_DRAWN, set[str]()
    fitting: dict[str, dict[str, Markup]] = {name: {} for name in drawn}
    for name, drawing in _dealt(drawn):
        if name not in full:
            svg = kept.svg(drawing)
            if (size := len(svg.encode())) > room:
                full.add(name)
            else:
                room -= size
                fitting[name][drawing.key] = Markup(svg)  # noqa: S704 - names are escaped in it (analysis/drawing.py)
    return [
        Shown(name=name, title=plugin.title, caption=plugin.caption,
              drawings=[(d.title, fitting[name][d.key]) for d in drawn[name] if d.key in fitting[name]],
              left_out=[f"{d.key}.svg" for d in drawn[name] if d.key not in fitting[name]])
        for name, plugin in figures.registry().items() if drawn[name]]


def _fitting_grids(grids: Mapping[str, Grid]) -> dict[str, Grid]:
    """Return the tables with as many rows as `MOST_VALUES` allows, the same number at most of each."""
    def values(most: int) -> int:
        return sum(min(most, len(grid.rows)) * len(grid.heads) for grid in grids.values())

    most = next((n for n in range(MOST_ROWS, 10, -10) if values(n) <= MOST_VALUES), 10)
    return {name: replace(grid, rows=grid.rows[:most], left_out=grid.left_out + max(0, len(grid.rows) - most))
            for name, grid in grids.items()}


def _sweep_file(root: Path, name: str) -> str:
    path = Layout(root).sweep(name).sweep_file
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _ends(root: Path, found: Study) -> Grid:
    """Return how each stage last ended without a result, in the ledger's words, finished later or not."""
    plan = found.records.plan
    ends = fold(read_events(Layout(root).sweep(plan.name))).ends
    return _ends_grid([[s.label, str(end.get("class", "")), str(end.get("text") or end.get("detail", "")),
                        str(end.get("time", ""))] for s in plan.stages if (end := ends.get(s.fingerprint)) is not None])


def _ends_grid(rows: Sequence[Sequence[str]]) -> Grid:
    heads = [Head(name="stage"), Head(name="class", meaning="why the attempt ended"),
             Head(name="what it was and what followed"), Head(name="seen")]
    return Grid(name="ends", title="Attempts that ended without a result", heads=heads, rows=rows[:MOST_ROWS],
                left_out=max(0, len(rows) - MOST_ROWS), empty="Every attempt left its result.")


def _treated(found: Study, made: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    frame = made["convergence"]
    return {"convergence": frame[~frame["arm"].isin(found.records.baseline_arms)]}


def _grid(name: str, made: dict[str, pd.DataFrame]) -> Grid:
    table = tables.registry()[name]
    by_name = {c.name: c for c in table.columns}
    kept = [by_name[n] for n in _COLUMNS.get(name, tuple(by_name))]
    frame = made[name][[c.name for c in kept]]
    rows = [[_shown(v) for v in row] for row in frame.head(MOST_ROWS).itertuples(index=False, name=None)]
    return Grid(name=name, title=table.title, heads=[_head(c) for c in kept], rows=rows,
                left_out=max(0, len(frame) - MOST_ROWS), empty=table.empty)


def _head(column: Column) -> Head:
    return Head(name=column.name.replace("_", " "), unit=column.unit, meaning=column.meaning,
                number=column.dtype in ("int64", "float64"))


def _shown(value: object) -> str:
    """Return a value for people: four significant digits, thousands separated."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return cell(value) if value != value or abs(value) >= 1e15 else _number(value)
    return f"{value:,}" if isinstance(value, int) else plain(str(value))


def _number(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3e}"
    return f"{value:.4g}"


def _main(found: Study, told: Collection[str]) -> Grid:
    """Return the table of gains; `told`: cells that the page says more of."""
    domains = found.records.domains
    heads = [Head(name="arm"), Head(name="learned", meaning="seeds whose upstream was learned", number=True),
             *(Head(name=plain(d), number=True) for d in domains)]
    rows = [
        [plain(arm), found.learned(arm) + " ?" * found.doubtful(arm), *(_result(found, d, arm) for d in domains)]
        for arm in found.records.arms
    ]
    links = {(a, d + 2): key_of(d, a) for a in range(len(found.records.arms)) for d in range(len(domains))
             if key_of(d, a) in told}
    return Grid(name="convergence", title=f"Gain over {found.reference}", heads=heads, rows=rows[:MOST_ROWS],
                left_out=max(0, len(rows) - MOST_ROWS), links=links)


def _result(found: Study, domain: str, arm: str) -> str:
    if (domain, arm) not in found.cells:
        return ""
    counts, effect = found.counts(domain, arm), found.effect(domain, arm)
    if arm in found.records.baseline_arms:
        losses = found.losses.get((domain, arm), {})
        bits = bits_per_byte(found, domain, arm)
        text = f"{sum(losses.values()) / len(losses):.3f}" + f" ({bits:.3f})" * (bits == bits) if losses else "-"
    else:
        text = interval(effect) if effect.n else "-"
    if counts["scored"] < counts["planned"] and "(n=" not in text:
        text += f" (n={counts['scored']})"
    return text + "".join(f", {counts[w]} {w}" for w in ("diverged", "withheld") if counts[w])


def _stages(found: Study) -> Grid:
    stages = found.records.plan.stages
    rows = [[s.kind, s.label, s.fingerprint, f"{s.tokens:,}", f"{s.trials:,}"] for s in stages[:MOST_ROWS]]
    heads = [Head(name="kind"), Head(name="stage"), Head(name="fingerprint"), Head(name="tokens", number=True),
             Head(name="trials", number=True)]
    return Grid(name="plan", title="Stages", heads=heads, rows=rows, left_out=len(stages) - len(rows))
