"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How good it is."""

    OK = "ok"
    WARNING = "warning"
    """Sweeps run, but something costs them, or a promise does not hold in full."""
    FAILED = "failed"
    """Sweeps do not run, or stop as soon as they meet it."""
    UNKNOWN = "unknown"
    """There was no answer."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one check."""

    check: str
    """At most 11 characters."""
    verdict: Verdict
    seen: str
    """What was found."""
    means: str = ""
    """What that means for a sweep."""
    fix: str = ""
    """What a person can do about it."""


def ok(check: str, seen: str, means: str = "") -> Finding:
    """Return a finding that needs no action."""
    return Finding(check=check, verdict=Verdict.OK, seen=seen, means=means)


def warning(check: str, seen: str, means: str, fix: str) -> Finding:
    """Return a finding that costs a sweep something."""
    return Finding(check=check, verdict=Verdict.WARNING, seen=seen, means=means, fix=fix)


def failed(check: str, seen: str, means: str, fix: str) -> Finding:
    """Return a finding that stops a sweep."""
    return Finding(check=check, verdict=Verdict.FAILED, seen=seen, means=means, fix=fix)


def unknown(check: str, seen: str, means: str, fix: str) -> Finding:
    """Return that a check had no answer."""
    return Finding(check=check, verdict=Verdict.UNKNOWN, seen=seen, means=means, fix=fix)


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the verdict of all together."""
    order = (Verdict.FAILED, Verdict.WARNING, Verdict.UNKNOWN)
    return next((v for v in order if v in verdicts), Verdict.OK)
