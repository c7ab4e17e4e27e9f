"""The table that a terminal shows: 80 columns, ASCII, no colour; then what it says."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis.statistics import Interval
from analysis.study import Study, study
from analysis.summary import detectable_text, verdict_sentences
from analysis.tables.convergence import bits_per_byte
from analysis.wording import nats, parameters, plain

_CELL, _LEARNED, _ARM_LEAST, _MIN_WIDTH = 16, 7, 16, 48
_ABREAST = 3
"""Domains beside each other that long arm names make room for."""
LEGEND = (
    "Gain over scratch in nats per token at the end of pre-training (loss of scratch minus loss of the arm, paired by "
    "seed; positive is better), +- half the 95 % paired-t interval. * the interval excludes zero. ! a planned seed is "
    "missing or diverged. n=: fewer than 3 seeds, so no interval. learned: seeds whose upstream was learned (? "
    "not in all that are measured: a missing gain there says nothing). "
    "detectable: the gain found with 80 % power."
)


def terminal_text(root: Path, name: str, width: int = 80) -> str:
    """Return a sweep's result as text of at most `width` columns (at least 48)."""
    return text_of(study(root, name), width)


def text_of(found: Study, width: int = 80) -> str:
    """Return the text of a study."""
    width = max(width, _MIN_WIDTH)
    plan = found.records.plan
    scored = int((found.records.trials["status"] == "scored").sum())
    head = [
        f"{'SIMULATED, every number is made up. ' if found.records.simulated else ''}{plan.name}: {plan.question}",
        f"{_setting(found)}{scored} of {len(found.records.trials)} trials scored",
    ]
    lines = [line for text in head for line in textwrap.wrap(plain(text), width)]
    longest = max(len(plain(arm)) for arm in [*found.records.arms, "bits per byte"])
    room = width - 1 - _LEARNED - min(_ABREAST, len(found.records.domains)) * (_CELL + 1)
    label = min(longest, max(_ARM_LEAST, room))
    per_block = max(1, (width - label - 1 - _LEARNED) // (_CELL + 1))
    for start in range(0, len(found.records.domains), per_block):
        lines += ["", *_block(found, found.records.domains[start : start + per_block], label)]
    lines += ["", *textwrap.wrap(LEGEND, width), ""]
    for sentence in verdict_sentences(found):
        lines += textwrap.wrap(sentence, width, initial_indent="- ", subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def _setting(found: Study) -> str:
    """What the sweep was run at; curves of a file say nothing of it."""
    plan = found.records.plan
    size = parameters(plan.body_parameters)
    return f"protocol {plan.protocol}, scale {plan.scale} ({size} body parameters), " if plan.scale else ""


def _block(found: Study, domains: Sequence[str], label: int) -> Iterator[str]:
    rule = "-" * (label + 1 + _LEARNED + len(domains) * (_CELL + 1))
    names = [textwrap.wrap(plain(d), _CELL - 1) for d in domains]
    for i, parts in enumerate(itertools.zip_longest(*names, fillvalue="")):
        yield from _line("", "" if i else "learned", [f" {p}" for p in parts], label)
    yield rule
    for arm in found.records.baseline_arms:
        yield from _line(f"{arm} loss", "", [_loss(found, d, arm) for d in domains], label)
        yield from _line("bits per byte", "", [_bits(found, d, arm) for d in domains], label)
    yield rule
    for arm in found.records.arms:
        if arm not in found.records.baseline_arms:
            yield from _line(arm, _learned(found, arm), [_gain(found, d, arm) for d in domains], label)
    yield rule
    yield from _line("detectable", "", [_aligned(detectable_text(found, d)) for d in domains], label)
    yield from _line("seeds", "", [_seeds(found, d) for d in domains], label)


def _learned(found: Study, arm: str) -> str:
    return found.learned(arm) + " ?" * found.doubtful(arm)


def _line(name: str, learned: str, cells: Sequence[str], label: int) -> Iterator[str]:
    """Yield one row; a long name goes on in further lines."""
    names = textwrap.wrap(plain(name), label) or [""]
    values = "".join(f" {plain_cell(c):<{_CELL}}" for c in cells)
    yield f"{names[0]:<{label}} {learned:<{_LEARNED}}{values}".rstrip()
    yield from (f"  {part}"[: label + _LEARNED] for part in names[1:])


def plain_cell(text: str) -> str:
    """Return a cell cut to its width; leading blanks align numbers and stay."""
    shown = text if text.isascii() and text.isprintable() else plain(text)
    return shown if len(shown) <= _CELL else shown[: _CELL - 2] + ".."


def _aligned(number: str) -> str:
    return number if number.startswith(("+", "-")) else f" {number}"


def _loss(found: Study, domain: str, arm: str) -> str:
    losses = found.losses.get((domain, arm), {})
    return f" {sum(losses.values()) / len(losses):.3f}" if losses else "-"


def _bits(found: Study, domain: str, arm: str) -> str:
    value = bits_per_byte(found, domain, arm) if (domain, arm) in found.cells else math.nan
    return f" {value:.3f}" if math.isfinite(value) else "-"


def _gain(found: Study, domain: str, arm: str) -> str:
    if (domain, arm) not in found.cells:
        return ""
    effect, counts = found.effect(domain, arm), found.counts(domain, arm)
    if not effect.n:
        why = next((f" ({counts[w]} {w})" for w in ("diverged", "withheld") if counts[w]), "")
        return f"-{why}"
    return _number(effect) + ("!" if counts["scored"] < counts["planned"] else "")


def _number(effect: Interval) -> str:
    if effect.note:
        return f"{nats(effect.mean)} n={effect.n}"
    return f"{nats(effect.mean)} +-{effect.half:.3f}{'*' if effect.resolved else ''}"


def _seeds(found: Study, domain: str) -> str:
    counts = [found.counts(domain, a) for a in found.records.arms if (domain, a) in found.cells]
    low, high = min(c["scored"] for c in counts), max(c["scored"] for c in counts)
    return f" {low}{f'-{high}' if high > low else ''} of {max(c['planned'] for c in counts)}"
