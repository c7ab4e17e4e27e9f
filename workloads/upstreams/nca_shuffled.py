"""Upstream `nca_shuffled`: NCA sequences whose patch tokens are permuted. The control for order; light, fields only.

It keeps every sequence's tokens, length and delimiters, and shares the rule banks of `nca`.
"""

from __future__ import annotations

from sweeps.language.plugins import Upstream
from workloads.upstreams import nca
from workloads.upstreams.nca.science import NcaScience, bank_fields, rules_needed


class NcaShuffledScience(NcaScience):
    """The fields of `nca`. Its band is a plain field (default 60-75), not an axis: a control needs one band."""


PLUGIN = Upstream(
    science=NcaShuffledScience,
    revision=1,
    implementation="workloads.upstreams.nca.shuffled:make_shuffled_source",
    control=True,
    inherits="nca",
    protocols=nca.PROTOCOLS,
    scales=nca.SCALES,
    vocabulary=nca.vocabulary,
    bank=bank_fields,
    bank_owner="nca",
    bank_implementation=nca.BANK_IMPLEMENTATION,
    rules_needed=rules_needed,
    describe=nca.describe,
    pilot=nca.pilot,
    survey=nca.survey,
    frame_tokens=nca.frame_tokens,
    frames_implementation=nca.FRAMES_IMPLEMENTATION,
)
