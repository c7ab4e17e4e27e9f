"""What a terminal shows of two sides: 80 columns, what differs first; and the same as JSON."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from analysis.compare import AGREE, DIFFER, IDENTICAL, UNKNOWN, Change, Comparison, Number
from analysis.downstream import UNSAFE_MARK, UNSAFE_MEANS
from analysis.wording import SIMULATED, count, interval, listed, nats, plain

_WIDTH, _MOST = 80, 30
_LEGEND = (
    "loss: of a baseline at T_b; gain: over the baseline at T_b; nats per token, with 95 % intervals. task.level.rung: "
    "a downstream score, mean over seeds on the items that were asked. b - a: "
    "difference of the means with Welch's 95 % interval, seeds taken as independent. identical: the same seeds, the "
    "same values. not tested: fewer than 3 seeds on a side. ?: that side's upstream was not learned in every measured "
    f"seed, so a missing gain says nothing. {UNSAFE_MEANS} Each interval stands for itself."
)


def text_of(found: Comparison) -> str:
    """Return a comparison as text of at most 80 columns."""
    lines = [line for side, name, made_up in (
        ("a", found.a, found.simulated_a), ("b", found.b, found.simulated_b))
             for line in _wrapped(f"{side}: {name}{f' ({SIMULATED})' if made_up else ''}", "   ")] + [""]
    lines += _head(found)
    lines += _changes("settings that differ", found.settings)
    for side, only in (("a", found.only_a), ("b", found.only_b)):
        lines += [line for name, values in only.items() if values
                  for line in _wrapped(f"{name} of {side} alone: {listed(values, 12)}")]
    for verdict in (DIFFER, AGREE, UNKNOWN, IDENTICAL):
        lines += _numbers(verdict, [n for n in found.numbers if n.verdict == verdict])
    lines += _changes("versions that differ", found.versions)
    return "\n".join([*lines, "", *textwrap.wrap(_LEGEND, _WIDTH)]) + "\n"


def raw(found: Comparison) -> dict[str, Any]:
    """Return a comparison for JSON; None where a number is not defined."""
    return {**_json(asdict(found)), "differs": found.differs}


def _json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _json(v) for k, v in value.items()}
    return [_json(v) for v in value] if isinstance(value, list | tuple) else value


def _head(found: Comparison) -> Iterator[str]:
    counts = Counter(n.verdict for n in found.numbers)
    said = ", ".join(f"{counts[v]} {v}" for v in (IDENTICAL, AGREE, DIFFER, UNKNOWN) if counts[v]) or "none in common"
    yield from _wrapped(f"numbers: {said}; trials: {found.common} in common, {found.same} of them the same stages.")
    if not found.common:
        yield from _wrapped("No trial of one has domain, arm and seed of a trial of the other.")


def _changes(title: str, changes: Sequence[Change]) -> Iterator[str]:
    if changes:
        yield from ("", f"{title}, a -> b:")
    for change in changes[:_MOST]:
        cells = f" ({count(change.pairs, 'cell')})" if change.pairs else ""
        yield from _wrapped(f"{change.name}: {_short(change.a)} -> {_short(change.b)}{cells}", "    ", "  ")
    if len(changes) > _MOST:
        yield f"  and {len(changes) - _MOST} more: --json names them"


def _numbers(verdict: str, numbers: Sequence[Number]) -> Iterator[str]:
    if not numbers:
        return
    yield from ("", f"{verdict}:")
    for n in numbers[:_MOST]:
        yield from _wrapped(f"{plain(n.domain)}, {plain(n.arm)}", "    ", "  ")
        one, two = (UNSAFE_MARK * unsafe + " ?" * doubtful for unsafe, doubtful in (
            (n.unsafe_a, n.doubtful_a), (n.unsafe_b, n.doubtful_b)))
        if verdict == IDENTICAL:
            yield f"    {n.what} {_value(n, n.a)}{one or two}"
            continue
        said = f"{n.what} a {_value(n, n.a)}{one}, b {_value(n, n.b)}{two}; b - a {interval(n.difference)}"
        yield from _wrapped(said, "      ", "    ")
    if len(numbers) > _MOST:
        yield f"  and {len(numbers) - _MOST} more: --json names them"


def _value(number: Number, value: Any) -> str:
    if number.what == "gain":
        return interval(value)
    return f"{value.mean:.4f} (n={value.n})" if math.isfinite(value.mean) else nats(value.mean)


def _short(text: str) -> str:
    flat = plain(text)
    return flat if len(flat) <= 60 else flat[:57] + "..."


def _wrapped(text: str, later: str = "  ", first: str = "") -> list[str]:
    return textwrap.wrap(plain(text), _WIDTH, initial_indent=first, subsequent_indent=later) or [""]
