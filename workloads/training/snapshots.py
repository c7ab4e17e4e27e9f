"""A state copied to host memory, so that training may go on while it is written, and the writing of it.

A copy costs the time of moving the bytes and, until it is written, the memory of the state once more.
"""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

PIECE_BYTES = 16 * 2**20
"""What is written between two signs of life: a tenth of a second on a slow disk."""
BUFFER_BYTES = 2**20
"""Torch's small writes, some hundred a file, are gathered to this."""


def copied(state: Any) -> Any:
    """Return a copy of a state in host memory; on a GPU waits for the device.

    A storage is copied whole, and once: tensors that share one share its copy too, so that the files, and what loads
    them, are the same as without the copy. The copy is not page-locked: torch rounds such memory up to the next power
    of two and never gives it back.

    Args:
        state: dictionaries, lists and tuples, however nested, of tensors and of whatever `copy.deepcopy` takes.
    """
    return _copied(state, {})


def _copied(item: Any, hosts: dict[int, torch.UntypedStorage]) -> Any:
    if isinstance(item, torch.Tensor):
        host = _host(item.untyped_storage(), hosts)
        return torch.empty(0, dtype=item.dtype).set_(host, item.storage_offset(), item.size(), item.stride())
    if isinstance(item, dict):
        found = copy.copy(item)  # with what hangs on it: an OrderedDict of weights has metadata
        found.update({key: _copied(value, hosts) for key, value in item.items()})
        return found
    if type(item) in (list, tuple):
        return type(item)(_copied(one, hosts) for one in item)
    return copy.deepcopy(item)


def _host(storage: torch.UntypedStorage, hosts: dict[int, torch.UntypedStorage]) -> torch.UntypedStorage:
    key = storage._cdata  # its address, for as long as the state holds it
    if key not in hosts:
        hosts[key] = torch.empty(storage.nbytes(), dtype=torch.uint8).untyped_storage().copy_(storage)
    return hosts[key]


def write(state: Any, path: Path, going: Callable[[int], None]) -> None:
    """Write what `torch.load` reads.

    Args:
        state: what.
        path: where.
        going: told the bytes of each piece before it is written; what it raises ends the writing.

    Raises:
        OSError: for one, there is no space; torch may raise a RuntimeError of its own after it.
    """
    with io.BufferedWriter(_Pieces(path, going), BUFFER_BYTES) as file:
        torch.save(state, file)


class _Pieces(io.FileIO):
    """A file that is written in pieces."""

    def __init__(self, path: Path, going: Callable[[int], None]) -> None:
        super().__init__(path, "wb")
        self._going = going

    def write(self, data: Any) -> int:
        """Write as much of `data` as one piece takes; return how much that is."""
        piece = memoryview(data)[:PIECE_BYTES]
        self._going(len(piece))
        return os.write(self.fileno(), piece)
