"""What upstream tokens buy: the gain at each budget, and what each budget adds to the next smaller one."""

from __future__ import annotations

import pandas as pd

from analysis.best import resolved_best
from analysis.by_field import BUDGET, along
from analysis.convergence import gain_percent
from analysis.schema import NATS, TOKENS, Column, detectable, frame_of
from analysis.study import Study
from analysis.table import Table

COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "what is compared, without its budget"),
    Column("token_budget", "str", "", "upstream budget as written"),
    Column("upstream_tokens", "int64", TOKENS, "realised upstream tokens T_ppt"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("seeds", "int64", "", "seeds scored together with their baseline"),
    Column("gain_nats", "float64", NATS, "mean gain over the baseline at T_b"),
    Column("low", "float64", NATS, "lower end of its 95 % paired-t interval; empty below three seeds"),
    Column("high", "float64", NATS, "upper end"),
    detectable(),
    Column("gain_percent", "float64", "%", "the same of perplexity, 100 (1 - exp(-gain_nats))"),
    Column("over", "str", "", "the arm with the next smaller budget"),
    Column("more_nats", "float64", NATS, "mean gain over that arm, paired by seed"),
    Column("more_low", "float64", NATS, "lower end of its 95 % paired-t interval"),
    Column("more_high", "float64", NATS, "upper end"),
    detectable("more_detectable"),
    Column("reading", "str", "", "whether the larger budget is better, worse or not resolved from the smaller"),
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of((
        {"domain": domain, "arm": p.group, "token_budget": p.value,
         "upstream_tokens": study.cells[domain, p.arm][0]["upstream_tokens"], "learned": study.learned(p.arm),
         "seeds": p.gain.n, "gain_nats": p.gain.mean, "low": p.gain.low, "high": p.gain.high,
         "detectable_nats": p.gain.detectable, "gain_percent": gain_percent(p.gain.mean), "over": p.over,
         "more_nats": p.change.mean, "more_low": p.change.low, "more_high": p.change.high,
         "more_detectable": p.change.detectable, "reading": p.reading}
        for domain in study.records.domains for p in along(study, domain, BUDGET, stepwise=True)
    ), COLUMNS)


PLUGIN = Table(title="Upstream budgets", columns=COLUMNS, build=_build,
               best=resolved_best("gain_nats", "low", "high", ("domain", "arm")),
               empty="No arm of this sweep has several upstream budgets.")
