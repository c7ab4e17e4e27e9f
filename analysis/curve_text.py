"""What a terminal shows of loss curves: one line per arm, 80 columns, ASCII; then what the curves say."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.curves import rows
from analysis.study import Study
from analysis.summary import verdict_sentences
from analysis.wording import plain

_WIDTH, _NAME = 80, 17
_HEADS = ("perplexity", "gain %", "nats", "speed-up", "at end", "charged", "saving", "n")
_LEGEND = (
    "gain: of perplexity at T_b, the baseline's last evaluation; nats: the same as a difference of losses. speed-up: "
    "T_own / T_x, at end: T_b / T_x, charged: T_own / (T_x + upstream tokens), saving: 1 - (T_x + upstream tokens) / "
    "T_own; T_x: the arm's first crossing of the baseline's last loss, T_own: the baseline's own. <x: not reached by "
    "every seed, so at most x. >x: reached by the first evaluation already. Over seeds (n): nats averaged, ratios "
    "geometrically; 3/4: of 4 seeds 3 have a loss at T_b, so gains are over 3 and speed-ups over 4. Speed-ups at one "
    "loss mostly read the learning-rate tail: see the table speedup_over_target."
)


def curve_text(found: Study) -> str:
    """Return the text of a study of curves (`analysis.curves`)."""
    lines: list[str] = []
    panel = None
    for row in rows(found):
        if row["panel"] != panel:
            panel = row["panel"]
            lines += ["", *textwrap.wrap(plain(panel), _WIDTH), _line("", _HEADS), "-" * (_NAME + 63)]
        lines += _arm(found, row)
    lines += ["", *textwrap.wrap(_LEGEND, _WIDTH), ""]
    for sentence in verdict_sentences(found):
        lines += textwrap.wrap(plain(sentence), _WIDTH, initial_indent="- ", subsequent_indent="  ")
    return "\n".join(line.rstrip() for line in lines[1:]) + "\n"


def _arm(found: Study, row: Mapping[str, Any]) -> Iterator[str]:
    pairs = found.pairs
    own = pairs[(pairs["domain"] == row["panel"]) & (pairs["arm"] == row["upstream"])]
    first = bool(own["at_first"].any())
    ratios = [_ratio(row, n, first) for n in ("speedup", "speedup_at_end", "charged_speedup")]
    if row["censored"] and row["speedup_bound"] is not None:
        ratios[0] = f"<{row['speedup_bound']:.4f}"
    names = textwrap.wrap(_ascii(row["upstream"]), _NAME - 1) or [""]
    yield _line(names[0], [
        _number(row["final_perplexity"], ".2f"), _number(row["gain_percent"], "+.3f"),
        _number(row["gain_nats"], "+.3f"), *ratios, _number(row["token_saving"], "+.3f"), _seeds(found, row),
    ])
    yield from (f"  {part}" for part in names[1:])


def _seeds(found: Study, row: Mapping[str, Any]) -> str:
    at_t_b = len(found.losses.get((row["panel"], row["upstream"]), {}))
    return str(row["n_seeds"]) if at_t_b == row["n_seeds"] else f"{at_t_b}/{row['n_seeds']}"


def _ratio(row: Mapping[str, Any], name: str, first: bool) -> str:
    return ">" * first * (row[name] is not None) + _number(row[name], ".4f")


def _number(value: float | None, form: str) -> str:
    if value is None or math.isnan(value):
        return "-"
    text = format(value, form)
    return text if len(text) <= 9 else format(value, ".2e")


def _line(name: str, cells: Sequence[str]) -> str:
    widths = (10, 8, 7, 9, 8, 8, 7, 5)
    return f"{name:<{_NAME}}" + "".join(f" {c:>{w - 1}}" for c, w in zip(cells, widths, strict=True))


def _ascii(text: str) -> str:
    return plain(text).encode("ascii", "backslashreplace").decode()
