"""Frames to tokens, and which tokens are targets.

Shapes: B rollouts, F frames, P patches of a frame, T tokens of a sequence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workloads.upstreams.nca.science import NcaBankScience

Int32s = npt.NDArray[np.int32]


def patch_tokens(frames_BFHW: npt.NDArray[np.integer], states: int, patch: int) -> Int32s:
    """Return (B, F, P): row-major patches; inside a patch cell p counts states^p, so [[1, 2], [3, 4]] is 4321."""
    tokens = np.zeros(
        (*frames_BFHW.shape[:2], frames_BFHW.shape[2] // patch, frames_BFHW.shape[3] // patch), dtype=np.int32
    )
    for position in reversed(range(patch**2)):
        row, column = divmod(position, patch)
        tokens *= states
        tokens += frames_BFHW[:, :, row::patch, column::patch]
    return tokens.reshape(*tokens.shape[:2], -1)


def cells(tokens_BT: Int32s, states: int, grid: tuple[int, int], patch: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return the cells (B, F, H, W) of the whole frames in each sequence: the way back from delimited patches.

    Args:
        tokens_BT: sequences that begin with a frame.
        states: alphabet of a cell.
        grid: its height and width.
        patch: height and width of the cells that make one token.
    """
    rows, columns = grid[0] // patch[0], grid[1] // patch[1]
    period, size = rows * columns + 2, patch[0] * patch[1]
    frames = tokens_BT.shape[1] // period
    patches = tokens_BT[:, : frames * period].reshape(-1, frames, period)[..., 1:-1].astype(np.int64)
    digits = patches[..., None] // states ** np.arange(size) % states
    return digits.reshape(-1, frames, rows, columns, *patch).swapaxes(3, 4).reshape(-1, frames, *grid)


def frames_of(science: NcaBankScience, tokens_BT: Int32s) -> npt.NDArray[np.int64]:
    """Return the cells of NCA sequences; a `contract.Frames`."""
    grid = science.grid.height, science.grid.width
    return cells(tokens_BT, science.states, grid, (science.patch, science.patch))


def delimit(patches_BFP: Int32s, start: int) -> Int32s:
    """Return (B, F (P + 2)): each frame between the tokens `start` and `start + 1`."""
    batch, frames, patches = patches_BFP.shape
    tokens = np.empty((batch, frames, patches + 2), dtype=np.int32)
    tokens[..., 0] = start
    tokens[..., 1:-1] = patches_BFP
    tokens[..., -1] = start + 1
    return tokens.reshape(batch, -1)


def target_mask(science: NcaBankScience, delimiter_loss: bool, length: int) -> npt.NDArray[np.bool_]:
    """Return (T,): no target in the first frame; later delimiters are targets where `delimiter_loss`."""
    period = science.patches + 2
    place = np.arange(length) % period
    patch = (place != 0) & (place != period - 1)
    mask: npt.NDArray[np.bool_] = (np.arange(length) >= period) & (patch | delimiter_loss)
    return mask


def patch_positions(science: NcaBankScience, length: int) -> npt.NDArray[np.int64]:
    """Return the positions of a sequence that hold patches, not delimiters."""
    period = science.patches + 2
    place = np.arange(length) % period
    return np.flatnonzero((place != 0) & (place != period - 1))
