"""Numbers and names as plain ASCII text, the same in the terminal and in the report."""

from __future__ import annotations

import math
from collections.abc import Iterable

from analysis.statistics import Interval

SIMULATED = "SIMULATED: the memory executor made every number of this store up; nothing here is a result."
"""What no reader may miss, wherever numbers are shown."""


def nats(value: float) -> str:
    """Return a difference in nats: sign and three digits; `-` where there is none."""
    return f"{value:+.3f}" if math.isfinite(value) else "-"


def interval(value: Interval) -> str:
    """Return `+0.050 [+0.037, +0.063]`, or `+0.050 (n=2)` where there is no interval."""
    if not value.n:
        return "no scored seed"
    if math.isfinite(value.low):
        return f"{nats(value.mean)} [{nats(value.low)}, {nats(value.high)}]"
    return f"{nats(value.mean)} (n={value.n})"


def count(n: int, noun: str) -> str:
    """Return `1 seed`, `2 seeds`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def parameters(n: int) -> str:
    """Return a parameter count: `0.13M`, `9.8M`, `1.6B`."""
    if n >= 1_000_000_000:
        return f"{n / 1e9:.1f}B"
    return f"{n / 1e6:.{3 if n >= 1_000_000 else 2}g}M" if n >= 10_000 else str(n)


def plain(text: str) -> str:
    """Return a name on one line without control characters, so that it cannot steer a terminal."""
    flat = " ".join(text.split())
    return flat if flat.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in flat)


def short(text: str, limit: int = 24) -> str:
    """Return a name cut in its middle to `limit` characters, for figures."""
    shown = plain(text)
    return shown if len(shown) <= limit else f"{shown[: limit - 10]}...{shown[-7:]}"


def listed(parts: Iterable[str], limit: int = 6) -> str:
    """Return parts joined by commas, at most `limit` of them, with the number of the others."""
    given = [plain(p) for p in parts]
    rest = len(given) - limit
    return ", ".join(given[:limit]) + (f" and {rest} more" if rest > 0 else "")
