"""Gain of every complexity band on every domain, one panel: the sweep's main question as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.drawing import DOUBTFUL, Drawing, FigurePlugin, label
from analysis.heat import READING, Matrix, draw
from analysis.study import Study
from analysis.wording import interval, listed, plain, short

MOST_COLUMNS = 12
"""Of one picture; more domains go on in further ones."""


def _build(study: Study) -> list[Drawing]:
    return list(_drawings(study))


def _drawings(study: Study) -> Iterator[Drawing]:
    domains = study.records.domains
    banded = {arm for domain in domains for arms in study.bands(domain).values() for arm in arms}
    arms = [a for a in study.records.arms if a in banded and any(study.gains(d, a) for d in domains)]
    if len(arms) * len(domains) < 2:  # one number is no picture
        return
    for first in range(0, len(domains), MOST_COLUMNS):
        shown = domains[first : first + MOST_COLUMNS]
        if any(study.gains(d, a) for d in shown for a in arms):
            key = "band_by_domain" if len(domains) <= MOST_COLUMNS else f"band_by_domain-{first // MOST_COLUMNS}"
            yield _drawing(study, key, arms, shown)


def _drawing(study: Study, key: str, arms: Sequence[str], domains: Sequence[str]) -> Drawing:
    gains = {(r, c): study.effect(d, a) for r, a in enumerate(arms) for c, d in enumerate(domains)
             if study.gains(d, a)}
    said = listed((f"{study.named(arms[r])} on {plain(domains[c])} {interval(gain)}"
                   for (r, c), gain in gains.items()), 40)
    return draw(
        key, f"Gain over {study.reference} by band and domain",
        f"Gain over {study.reference}, nats per token with 95 % intervals: {said}.",
        Matrix(rows=[label(study, a) for a in arms], columns=[short(d, 16) for d in domains], gains=gains),
    )


PLUGIN = FigurePlugin(
    title="Band by domain",
    caption=f"Gain in nats per token at the end of pre-training, with its {READING} {DOUBTFUL}",
    build=_build, absent="no two arms with a complexity band, or domains, are scored together with their baseline",
)
