"""What arXiv 2603.10055 publishes, as data to lay under one's own results: final perplexities and curves on web text.

1.6B body parameters, 164M upstream tokens, the best NCA band of each domain; its upstream `text` is C4. Four seeds
whose spread is not published, so a published gain is a point without an interval.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from analysis.convergence import Curve

NAME = "published"
CURVES = Path(__file__).parent / "published_owt_curves.csv"
RESULTS = Path(__file__).parent / "published_results.csv"
_ALIASES = {"c4": "text", "openwebtext": "web", "owt": "web", "open_web_math": "math", "codeparrot": "code",
            "scratch": "none"}
"""Names of upstreams and domains elsewhere -> here."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One published final perplexity."""

    domain: str
    upstream: str
    upstream_tokens: int
    perplexity: float
    gain_nats: float
    """Over the domain's scratch: ln of the ratio of perplexities."""


def plain_name(name: str) -> str:
    """Return a domain's or upstream's name as the published data have it."""
    return _ALIASES.get(name.lower(), name.lower())


@lru_cache
def results() -> dict[tuple[str, str], Result]:
    """Return (domain, upstream) -> the published result; scratch is the upstream `none`."""
    with RESULTS.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    scratch = {r["domain"]: float(r["perplexity"]) for r in rows if r["upstream"] == "none"}
    return {
        (r["domain"], r["upstream"]): Result(
            domain=r["domain"], upstream=r["upstream"], upstream_tokens=int(r["upstream_tokens"]),
            perplexity=float(r["perplexity"]), gain_nats=math.log(scratch[r["domain"]] / float(r["perplexity"])))
        for r in rows
    }


@lru_cache
def curves() -> dict[str, Curve]:
    """Return upstream -> the published loss curve on web text, read off a figure."""
    points: dict[str, list[tuple[float, float]]] = {}
    with CURVES.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            points.setdefault(plain_name(row["upstream"]), []).append((float(row["tokens"]), float(row["val_loss"])))
    return {upstream: Curve.of(found) for upstream, found in points.items()}


def beside(domain: str, upstream: str) -> Result | None:
    """Return the published result of a domain and upstream, by any of their names; None where there is none."""
    return results().get((plain_name(domain), plain_name(upstream)))
