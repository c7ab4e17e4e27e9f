"""Reads the blocks of a bank as one array of rules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeps.errors import RecordError, UsageError
from workloads.upstreams.nca.bank import SCHEMA
from workloads.upstreams.nca.rollout import Rules
from workloads.upstreams.nca.science import NcaBankScience


@dataclass(frozen=True, kw_only=True)
class RuleBank:
    """A contiguous range of rules in blocks; memory-mapped, so that only what is read takes memory.

    A decay branch reads the last blocks only, so the range need not begin at 0.
    """

    starts: npt.NDArray[np.int64]
    """First rule of each block, and the end of the last."""
    blocks: tuple[Rules, ...]

    @property
    def count(self) -> int:
        """Number of rules."""
        return int(self.starts[-1] - self.starts[0])

    def take(self, rule_B: npt.NDArray[np.int64]) -> Rules:
        """Return these rules.

        Raises:
            UsageError: the bank is too short.
        """
        first, end = int(self.starts[0]), int(self.starts[-1])
        if len(rule_B) and not first <= rule_B.min() <= rule_B.max() < end:
            raise UsageError(
                f"rules {int(rule_B.min())} to {int(rule_B.max())} are needed and the bank holds {first} to {end - 1}; "
                "give the blocks that hold them"
            )
        shapes = self.blocks[0].tables_BKNC.shape[1:], self.blocks[0].outputs_BCN.shape[1:]
        tables, outputs = (np.empty((len(rule_B), *shape), np.int32) for shape in shapes)
        block_B = np.searchsorted(self.starts, rule_B, side="right") - 1
        for number in np.unique(block_B):
            mine = np.flatnonzero(block_B == number)
            part = self.blocks[number].take(rule_B[mine] - self.starts[number])
            tables[mine], outputs[mine] = part.tables_BKNC, part.outputs_BCN
        return Rules(tables_BKNC=tables, outputs_BCN=outputs)


def open_bank(folders: Sequence[Path], bank: NcaBankScience, stream: str) -> RuleBank:
    """Return the bank that these blocks make, in order.

    Raises:
        UsageError: no block is given.
        RecordError: a block is damaged, of another bank or stream, or does not follow the one before.
    """
    if not folders:
        raise UsageError("the upstream nca reads its rules from a bank and no bank folder was given")
    starts: list[int] = []
    blocks = []
    for folder in folders:
        header = _header(folder)
        first = header.get("first")
        starts = starts or [first if isinstance(first, int) and first >= 0 else 0]
        expected = {"first": starts[-1], "stream": stream, "bank": bank.model_dump(mode="json")}
        for name, value in expected.items():
            if header.get(name) != value:
                raise RecordError(f"{folder}/bank.json: {name} is {header.get(name)!r}, expected {value!r}")
        blocks.append(_rules(folder, header, bank))
        starts.append(starts[-1] + int(header["count"]))
    return RuleBank(starts=np.array(starts, np.int64), blocks=tuple(blocks))


def _header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / "bank.json").read_text())
    except (OSError, ValueError) as error:
        raise RecordError(f"{folder}/bank.json cannot be read: {error}") from error
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        raise RecordError(f"{folder}/bank.json is not a bank of schema {SCHEMA}")
    return header


def _rules(folder: Path, header: dict[str, Any], bank: NcaBankScience) -> Rules:
    net, count = bank.network, header.get("count")
    shapes = {
        "tables.npy": (count, net.neighbourhood**2, bank.states, net.relu_channels),
        "outputs.npy": (count, net.relu_channels, bank.states),
    }
    arrays = []
    for name, shape in shapes.items():
        try:
            array = np.load(folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RecordError(f"{folder / name} cannot be read: {error}") from error
        if array.shape != shape or array.dtype != np.int32:
            raise RecordError(f"{folder / name} is {array.dtype} {array.shape}, expected int32 {shape}")
        arrays.append(array)
    return Rules(tables_BKNC=arrays[0], outputs_BCN=arrays[1])
