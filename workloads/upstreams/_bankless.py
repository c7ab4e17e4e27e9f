"""What upstreams without a rule bank share: they refuse one, and every token but the first is a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sweeps.errors import UsageError
from workloads.contract import SequenceBatch


def refuse_banks(upstream: str, banks: Sequence[Path]) -> None:
    """See that no bank is given.

    Raises:
        UsageError: one is.
    """
    if banks:
        raise UsageError(f"the upstream {upstream} reads no rule bank and {len(banks)} were given")


def all_but_first(tokens_BT: npt.NDArray[np.int32]) -> SequenceBatch:
    """Return the tokens with every position but 0 as a target."""
    target_BT = np.ones(tokens_BT.shape, np.bool_)
    target_BT[:, :1] = False
    return SequenceBatch(tokens_BT=tokens_BT, target_BT=target_BT)
