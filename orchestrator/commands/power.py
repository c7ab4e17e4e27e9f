"""Say how many seeds each claim of a sweep needs, from the variance of what has run: a pilot of two seeds is enough.

With --rung, how many seeds and items a difference in downstream scores needs, and what can be found now. Numbers in
brackets stand at the upper 80 % confidence limit of the pilot's standard deviations; plan with them. Without claims,
every arm is asked about that is compared with a baseline (docs/statistics.md).
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.arguments import CURVES, add_json, add_root, layout, out, out_json, sweep_name
from sweeps.errors import UsageError, nearest

if TYPE_CHECKING:
    from analysis.power import Pilot, Requirement
    from analysis.power_items import Needs
    from analysis.study import Study

EXAMPLES = """  orchestrator power sweeps/complexity_by_domain.yaml
  orchestrator power complexity_by_domain --effect 0.015 --power 0.9
  orchestrator power sweeps/downstream.yaml --rung cloze --effect 0.03
  orchestrator power curves.csv --baseline scratch"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="sweep file (.yaml) or a sweep's name, some of whose "
                        "seeds have run; or loss curves with a column seed (.csv, .parquet)")
    parser.add_argument("--effect", type=_positive, action="append", metavar="E", help="true gain beyond a claim's "
                        "threshold, nats (default: 0.005, 0.01, 0.02 and 0.05; 0.01 is 1 %% of perplexity), or with "
                        "--rung difference to scratch in its unit (0.01, 0.02, 0.05 and 0.1); may be repeated")
    parser.add_argument("--rung", metavar="RUNG", help="ask about downstream tasks, on this rung of their ladder "
                        "(cloze, exact, pass@10, ...): how many seeds and items, by the records of items")
    parser.add_argument("--power", type=_share, default=0.8, metavar="P", help="chance to find it (default: 0.8)")
    parser.add_argument("--baseline", metavar="NAME", help="of curves: the baseline (default: scratch)")
    add_root(parser)
    add_json(parser)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _positive(text: str) -> float:
    if not 0 < _number(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return float(text)


def _share(text: str) -> float:
    if not 0.05 < _number(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share between 0.05 and 1, such as 0.8")
    return float(text)


def run(arguments: argparse.Namespace) -> int:
    """Print what each claim needs."""
    from analysis.curves import BASELINE, study_of
    from analysis.power import EFFECTS, pilot, requirements
    from analysis.study import study

    if arguments.rung is not None:
        return _of_items(arguments)
    if arguments.file.suffix.lower() in CURVES:
        found, _ = study_of(arguments.file, arguments.baseline or BASELINE, 0)
    else:
        if arguments.baseline is not None:
            raise UsageError("--baseline belongs to curves; a sweep's file says it")
        store = layout(arguments)
        found = study(store.root, sweep_name(store, arguments.file))
    effects = tuple(arguments.effect or EFFECTS)
    pilots = [pilot(found, domain) for domain in found.records.domains]
    needs = requirements(found, effects, arguments.power)
    if arguments.json:
        out_json({"power": arguments.power, "simulated": found.records.simulated, "effects_nats": effects,
                  "pilots": [_plain(p) for p in pilots],
                  "claims": [asdict(n) for n in needs]})
    else:
        out("\n".join([*_made_up(found), *_lines(pilots, needs, effects, arguments.power)]))
    return 0


def _of_items(arguments: argparse.Namespace) -> int:
    """Print what each downstream task needs.

    Raises:
        UsageError: there is no such rung, or nothing has run on it.
    """
    from analysis.downstream import UNSAFE_MEANS
    from analysis.power_items import EFFECTS, needs
    from analysis.study import study
    from sweeps.language.ladder import LADDER, rung_of

    known = rung_of(arguments.rung)
    if known is None or arguments.baseline is not None or arguments.file.suffix.lower() in CURVES:
        raise UsageError(f"--rung {arguments.rung} is no rung; {nearest(arguments.rung, LADDER)}" if known is None else
                         "--rung is of a sweep's downstream tasks; leave it out for curves")
    store = layout(arguments)
    effects = tuple(arguments.effect or EFFECTS)
    pilot = study(store.root, sweep_name(store, arguments.file))
    found = needs(pilot, arguments.rung, effects, arguments.power)
    if not found:
        raise UsageError(f"no task has records of its items on the rung {arguments.rung}, of two seeds of an arm and "
                         "of scratch; run such a pilot first (downstream.tasks)")
    if arguments.json:
        out_json({"power": arguments.power, "simulated": pilot.records.simulated, "rung": arguments.rung,
                  "unit": known.unit, "effects": effects, "tasks": [
            {**asdict(n.spread), "detectable": _finite(n.detectable), "seeds_needed": n.seeds, "items_needed": n.items,
             "unsafe": bool(n.mark)} for n in found]})
    else:
        lines = [line for n in found for line in _item_lines(n, arguments.rung, known.unit, effects)]
        out("\n".join([*_made_up(pilot), *lines]))
        out(f"With power {arguments.power:g}, at a confidence of 95 % over items and seeds. In brackets: at the upper "
            "80 % limit of each variance." + (f" {UNSAFE_MEANS}" if any(n.mark for n in found) else ""))
    return 0


def _made_up(found: Study) -> list[str]:
    from analysis.wording import SIMULATED

    return [SIMULATED, ""] if found.records.simulated else []


def _item_lines(found: Needs, rung: str, unit: str, effects: tuple[float, ...]) -> list[str]:
    from analysis.power import MOST_SEEDS
    from analysis.power_items import MOST_ITEMS
    from analysis.wording import count, plain

    of = found.spread
    now = f"they find {found.detectable:.3g}" if math.isfinite(found.detectable) else "fewer than 3 seeds find nothing"
    spread = ", ".join(f"{name} {math.sqrt(variance):.3g}" for name, variance in (
        ("items", of.of_items), ("seeds", of.of_seeds), ("the rest", of.of_rest)))
    rows = [(f"seeds, with {of.items} items", found.seeds, MOST_SEEDS)]
    rows += [(f"items, with {seeds} seeds", items, MOST_ITEMS) for seeds, items in found.items.items()]
    return [
        f"{plain(of.task)}, {plain(of.domain)}{found.mark}: {count(of.items, 'item')}, {count(of.seeds, 'seed')}, "
        f"{count(of.arms, 'arm')}; {now} (sd of {spread})",
        f"  {f'{rung}, {unit}':26}" + "".join(f" {e:>19g}" for e in effects),
        *(f"  {name:26}" + "".join(f" {_cell(*pair, most):>19}" for pair in pairs) for name, pairs, most in rows), ""]


def _plain(made: Pilot) -> dict[str, Any]:
    return {k: _finite(v) if isinstance(v, float) else v for k, v in asdict(made).items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _lines(pilots: list[Pilot], needs: list[Requirement], effects: tuple[float, ...], power: float) -> list[str]:
    from analysis.power import MOST_SEEDS
    from analysis.wording import count, plain

    lines = []
    for p in pilots:
        noise = (f"sd of a paired difference {p.sd:.4f} nats, at most {p.sd_high:.4f}" if p.df
                 else "too few runs for a standard deviation")
        lines.append(f"pilot, {plain(p.domain)}: {noise} ({count(p.arms, 'arm')}, {count(p.seeds, 'seed')})")
    lines += ["", f"seeds that find a true gain beyond a claim's threshold with power {power:g}",
              f"{'':30}" + "".join(f" {f'{e:g} nats':>11}" for e in effects)]
    for need in needs:
        cells = [_cell(n, high, MOST_SEEDS) for n, high in zip(need.seeds, need.seeds_high, strict=True)]
        lines.append(f"{plain(need.claim)[:29]:30}" + (
            f" {need.note}" if need.note else "".join(f" {c:>11}" for c in cells)))
        lines.append(f"  {plain(need.text)}" + (f" (best of {need.bands} bands)" if need.bands > 1 else ""))
    return [*lines, "", "In brackets: at the upper 80 % limit of the pilot's standard deviation."]


def _cell(at: int | None, high: int | None, most: int) -> str:
    return f"{at or f'>{most}'} ({high or f'>{most}'})"
