"""Which value of a table is the best, and known to be: what Markdown and LaTeX set bold. Pure, on a table's frame."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd


def resolved_best(
    value: str, low: str, high: str, within: tuple[str, ...] = ("domain",)
) -> Callable[[pd.DataFrame], list[tuple[int, str]]]:
    """Return a `Table.best` that marks a difference whose interval lies above zero and above all others' of its group.

    Any reader can check that by eye, and it is enough: a paired difference of two rows has at most the sum of their
    standard deviations, so where two paired-t intervals of the same seeds are apart their difference is resolved. A
    row alone is no best, and where one has a value but no interval nothing is known. Lower values are the better ones
    in rows that say so in a column `better`.

    Args:
        value: column of differences to something that the group has in common.
        low: column with the lower ends of their intervals.
        high: column with the upper ends.
        within: columns that make a group.
    """
    def best(frame: pd.DataFrame) -> list[tuple[int, str]]:
        signs = [-1 if b == "lower" else 1 for b in frame["better"]] if "better" in frame else [1] * len(frame)
        keys = zip(*(frame[name].tolist() for name in within), strict=True)
        values = zip(*(frame[name].tolist() for name in (value, low, high)), strict=True)
        groups: dict[tuple[str, ...], list[tuple[float, float, int]]] = {}
        for i, (key, (mean, one, two), sign) in enumerate(zip(keys, values, signs, strict=True)):
            if not math.isnan(mean):
                groups.setdefault(key, []).append((min(sign * one, sign * two), max(sign * one, sign * two), i))
        found = []
        for rows in groups.values():
            *others, first = sorted(rows)
            known = others and not any(math.isnan(bottom) for bottom, _, _ in rows)
            if known and first[0] > max(0.0, *(top for _, top, _ in others)):
                found.append((first[2], value))
        return found

    return best
