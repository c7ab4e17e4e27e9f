"""The control `nca_one_rule`: rule 0 of the training stream's bank, from fresh initial grids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workloads.upstreams.nca.open_bank import open_bank
from workloads.upstreams.nca.science import NcaScience, bank_fields
from workloads.upstreams.nca.source import NcaSource


def make_one_rule_source(
    science: NcaScience, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> NcaSource:
    """Return the sequences of `stream`; a `contract.MakeSource` with the training bank of `nca` in every stream.

    `rules.unique` is 1, so that each sequence reads rule 0.

    Raises:
        UsageError: no bank is given.
        RecordError: a bank is damaged or belongs to other fields.
    """
    rules = open_bank(banks, bank_fields(science), "train")
    return NcaSource(science, rules, seed=seed, stream=stream, sequence_length=sequence_length)
