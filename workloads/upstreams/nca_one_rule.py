"""Upstream `nca_one_rule`: one rule for all sequences. The control for the variety of rules; light, fields only.

The rule is the first of the bank of `nca` at the same seed (another seed has another rule); initial grids and the
draws of each step are fresh. The held-out stream has this rule too: with another one the gate would ask whether a
model that has seen a single rule knows every rule, which nothing can teach it. A model may hold the rule in its
weights, so nothing needs to be inferred from the sequence. Entropy of a target: that of the rule's own draws, zero at
temperature 0.
"""

from __future__ import annotations

from pydantic import model_validator

from workloads.upstreams import nca
from workloads.upstreams.nca.science import NcaScience, RulesScience


class NcaOneRuleScience(NcaScience):
    """The fields of `nca`, but `rules.unique` is 1. Its band is a plain field (default 60-75), not an axis."""

    rules: RulesScience = RulesScience(unique=1)
    """One rule; nothing else is allowed."""

    @model_validator(mode="after")
    def _one(self) -> NcaOneRuleScience:
        if self.rules.unique != 1:
            raise ValueError(
                f"rules.unique is {self.rules.unique}; nca_one_rule has 1 rule: leave the field out, or take the "
                "upstream nca with that many"
            )
        return self


PLUGIN = nca.control(NcaOneRuleScience, "workloads.upstreams.nca.one_rule:make_one_rule_source",
                     training_bank=True,
                     protocols={name: {**fields, "rules.unique": 1} for name, fields in nca.PROTOCOLS.items()})
