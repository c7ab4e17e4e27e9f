"""Upstream `nca_unigram`: patch tokens drawn independently from the unigram law of `nca`. Light: fields only.

The control for everything but one histogram. The law is that of the whole upstream, not of each sequence: the tokens
of the first `law_sequences` training sequences of `nca`, pooled, so that no sequence tells anything about its own
tokens. (Drawn from each sequence's own law it would nearly be `nca_shuffled`, which keeps that law to the token, and
in which a model can still learn a sequence's frequencies from its beginning.) Train and held-out streams have the same
law; delimiters stay in place. Entropy of a patch: that of the law, -sum p log p; of a delimiter: zero.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from workloads.upstreams import nca
from workloads.upstreams.nca.science import NcaScience
from workloads.upstreams.nca.science import rules_needed as rules_of_nca


class NcaUnigramScience(NcaScience):
    """The fields of `nca`. Its band is a plain field (default 60-75), not an axis: a control needs one band."""

    law_sequences: Annotated[int, Field(ge=1, le=16_384)] = 512
    """Sequences of `nca`'s training stream whose patch tokens are the law, however long the control trains."""


def rules_needed(science: NcaUnigramScience, sequences: int) -> int:
    """Return how many rules of the bank are read: those of the law, whatever the number of sequences."""
    return rules_of_nca(science, science.law_sequences)


PLUGIN = nca.control(NcaUnigramScience, "workloads.upstreams.nca.unigram:make_unigram_source",
                     training_bank=True, rules_needed=rules_needed)
