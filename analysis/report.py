"""One self-contained page about a sweep: no script, no network, under 2 MB, light and dark, fit to print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd

from analysis import figures, tables
from analysis.claims import judge
from analysis.schema import Column
from analysis.study import Study, study
from analysis.summary import verdict_sentences
from analysis.table import cell
from analysis.tables.convergence import bits_per_byte
from analysis.wording import count, interval, parameters, plain
from sweeps.store import files
from sweeps.store.layout import Layout
from sweeps.store.ledger import fold, read_events

MOST_ROWS = 400
"""Rows of one table on the page; the rest is in its CSV."""
_COLUMNS = {
    "convergence": ("domain", "arm", "learned", "seeds", "censored", "at_first", "speedup_low", "speedup_high",
                    "speedup", "charged_speedup", "flop_charged_speedup", "speedup_note"),
    "controls": ("domain", "arm", "control", "learned", "control_learned", "seeds", "difference", "low", "high",
                 "detectable_nats", "reading"),
    "complexity_by_domain": ("domain", "arm", "note", "learned", "seeds", "gain_nats", "low", "high", "best",
                             "lead_nats", "lead_low", "lead_high"),
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


def build_report(root: Path, name: str, out: Path, found: Study | None = None) -> Path:
    """Write `<out>/report.html` about a sweep; return its path. Works while the sweep runs."""
    found = found or study(root, name)
    path = out / "report.html"
    files.replace(path, page(found, _sweep_file(root, name), _ends(root, found)))
    return path


def page(found: Study, sweep_file: str = "", ends: Grid | None = None) -> str:
    """Return the page of a study; `ends`: how attempts without a result ended, which is no result."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )
    made = {name: table.build(found) for name, table in tables.registry().items()}
    drawn = [{"title": p.title, "caption": p.caption, "drawings": p.build(found)} for p in figures.registry().values()]
    return environment.get_template("report.html.j2").render(
        plan=found.records.plan, body=parameters(found.records.plan.body_parameters), sweep_file=sweep_file,
        scored=int((found.records.trials["status"] == "scored").sum()),
        sentences=verdict_sentences(found, claims=False),
        departing=f"departures: {count(len(found.records.plan.departures), 'field')}",
        main=_main(found), claims=judge(found), wording=interval, named=found.named,
        figures=[f for f in drawn if f["drawings"]],
        bands=_grid("complexity_by_domain", made), speedup=_grid("convergence", _treated(found, made)),
        stages=_stages(found), ends=ends or _ends_grid([]),
        **{n: _grid(n, made) for n in (
            "controls", "by_field", "upstream_gate", "upstream_gate_by_place", "probes", "missing", "cost",
            "departures")},
    )


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


def _main(found: Study) -> Grid:
    domains = found.records.domains
    heads = [Head(name="arm"), Head(name="learned", meaning="seeds whose upstream was learned", number=True),
             *(Head(name=plain(d), number=True) for d in domains)]
    rows = [
        [plain(arm), found.learned(arm) + " ?" * found.doubtful(arm), *(_result(found, d, arm) for d in domains)]
        for arm in found.records.arms
    ]
    return Grid(name="convergence", title="Gain over scratch", heads=heads, rows=rows[:MOST_ROWS],
                left_out=max(0, len(rows) - MOST_ROWS))


def _result(found: Study, domain: str, arm: str) -> str:
    if (domain, arm) not in found.cells:
        return ""
    counts, effect = found.counts(domain, arm), found.effect(domain, arm)
    if arm in found.records.baseline_arms:
        losses = found.losses.get((domain, arm), {})
        text = f"{sum(losses.values()) / len(losses):.3f} ({bits_per_byte(found, domain, arm):.3f})" if losses else "-"
    else:
        text = interval(effect) if effect.n else "-"
    if counts["scored"] < counts["planned"] and "(n=" not in text:
        text += f" (n={counts['scored']})"
    return text + "".join(f", {counts[w]} {w}" for w in ("diverged", "withheld") if counts[w])


def _stages(found: Study) -> Grid:
    listed: Iterable[Sequence[str]] = (
        [s.kind, s.label, s.fingerprint, f"{s.tokens:,}", f"{s.trials:,}"] for s in found.records.plan.stages
    )
    rows = list(listed)
    heads = [Head(name="kind"), Head(name="stage"), Head(name="fingerprint"), Head(name="tokens", number=True),
             Head(name="trials", number=True)]
    return Grid(name="plan", title="Stages", heads=heads, rows=rows[:MOST_ROWS], left_out=max(0, len(rows) - MOST_ROWS))
