"""What who knows a rule still cannot know: the expected loss of NCA sequences, from the rule's exact integer logits.

Given the frame before, the cells of a frame are independent, cell s being drawn from Categorical(logits_s /
temperature) by the integer weights that the generator itself uses. So a patch token costs in expectation the sum of its
cells' entropies, and the patches before it in the same frame say nothing about it. Delimiters are certain; at
temperature 0 everything is. The first frame (never a target) is given 0.

Shapes: B rollouts, F frames, H x W grid, S cells of the flat grid, N states, P patches, T tokens, X any cells.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workloads.upstreams.nca import reference
from workloads.upstreams.nca.rollout import Rules, neighbours
from workloads.upstreams.nca.science import NcaBankScience

Floats = npt.NDArray[np.float64]


def expected_nats(
    bank: NcaBankScience, rules: Rules, frames_BFHW: npt.NDArray[np.integer], length: int
) -> Floats | None:
    """Return (B, length) nats per token of the sequences that these frames make.

    None where frames are kept at a stride above 1 and cells are drawn: what lies between them has no simple law.
    """
    batch, frames = frames_BFHW.shape[:2]
    nats_BFP = np.zeros((batch, frames, bank.patches))
    if bank.temperature > 0:
        if bank.frame_stride > 1:
            return None
        for frame in range(1, frames):
            nats_BFP[:, frame] = patch_nats(bank, rules, frames_BFHW[:, frame - 1])
    return np.pad(nats_BFP, ((0, 0), (0, 0), (1, 1))).reshape(batch, -1)[:, :length]


def patch_nats(bank: NcaBankScience, rules: Rules, frame_BHW: npt.NDArray[np.integer]) -> Floats:
    """Return the entropy (B, P) of each patch of the frame after this one."""
    grid_BS = frame_BHW.reshape(len(frame_BHW), -1).astype(np.int64)
    logits_BSN = reference.logits(rules, grid_BS, neighbours(bank))
    cells = _entropy(reference.weights(logits_BSN.reshape(-1, bank.states), bank.temperature))
    rows, columns = bank.grid.height // bank.patch, bank.grid.width // bank.patch
    parts = cells.reshape(-1, rows, bank.patch, columns, bank.patch)
    return np.asarray(parts.sum(axis=(2, 4)).reshape(-1, bank.patches))


def _entropy(weights_XN: npt.NDArray[np.int64]) -> Floats:
    """Return the entropy (X,) of the laws that these weights are."""
    law_XN = weights_XN / weights_XN.sum(axis=1, keepdims=True)
    return np.asarray(-(law_XN * np.log(np.where(law_XN > 0, law_XN, 1.0))).sum(axis=1))
