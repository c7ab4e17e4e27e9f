"""Gains beside the published ones of the same upstream and domain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.best import resolved_best
from analysis.convergence import gain_percent
from analysis.published import beside
from analysis.schema import NATS, TOKENS, Column, detectable, frame_of
from analysis.study import Study
from analysis.table import Table

COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "what is compared"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("seeds", "int64", "", "seeds scored together with their baseline"),
    Column("upstream_tokens", "int64", TOKENS, "realised upstream tokens"),
    Column("gain_nats", "float64", NATS, "mean gain over scratch at T_b; nats per token of another tokenizer and scale "
                                         "than the published ones, so signs and order compare, sizes hardly"),
    Column("low", "float64", NATS, "lower end of its 95 % paired-t interval"),
    Column("high", "float64", NATS, "upper end"),
    detectable(),
    Column("published_tokens", "int64", TOKENS, "published upstream tokens"),
    Column("published_nats", "float64", NATS, "published gain: ln of the ratio of final perplexities; best band, 1.6B "
                                              "parameters, no error bar"),
    Column("published_percent", "float64", "%", "the same as perplexity gain"),
)


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    for domain in study.records.domains:
        for arm in study.treated(domain):
            row = study.cells[domain, arm][0]
            known = None if row["is_control"] else beside(domain, row["upstream"])
            if known is not None:
                effect = study.effect(domain, arm)
                yield {
                    "domain": domain, "arm": arm, "learned": study.learned(arm), "seeds": effect.n,
                    "upstream_tokens": row["upstream_tokens"], "gain_nats": effect.mean, "low": effect.low,
                    "high": effect.high, "detectable_nats": effect.detectable,
                    "published_tokens": known.upstream_tokens, "published_nats": known.gain_nats,
                    "published_percent": gain_percent(known.gain_nats),
                }


def _build(study: Study) -> pd.DataFrame:
    return frame_of(_rows(study), COLUMNS)


PLUGIN = Table(title="Beside the published results", columns=COLUMNS, build=_build,
               best=resolved_best("gain_nats", "low", "high"),
               empty="Nothing is published of these domains and upstreams.")
