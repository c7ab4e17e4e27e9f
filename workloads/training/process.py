"""This process's place among the ranks of a stage. Joined once per process: several stages run in one.

A single rank needs no launcher, no port and no socket name: its process group lives in memory. Several ranks read the
usual variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), set by whatever starts them.
"""

from __future__ import annotations

import ctypes
import logging
import os
import random
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from sweeps.errors import OrchestratorError

T = TypeVar("T")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""
KEPT_BYTES, LARGEST_BYTES = 512 * 2**20, 32 * 2**20
"""Freed memory that a process keeps, and the largest piece of it (glibc allows no larger one)."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where this process stands."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """True on the rank that writes rows and commits."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.world > 1:
            dist.barrier()

    def decide(self, make: Callable[[], T]) -> T:
        """Return what `make` returns on rank 0, on every rank; also waits for it.

        Raises:
            OrchestratorError: `make` raised it on rank 0; every rank raises it, so that none waits for ever.
        """
        if self.world == 1:
            return make()
        outcome: list[Any] = [None]
        if self.first:
            try:
                outcome = [make()]
            except OrchestratorError as error:
                outcome = [error]
        dist.broadcast_object_list(outcome)
        if isinstance(outcome[0], OrchestratorError):
            raise outcome[0]
        decided: T = outcome[0]
        return decided

    def any(self, *flags: bool) -> list[bool]:
        """Return each flag or-ed over all ranks, so that every rank decides alike."""
        if self.world == 1:
            return list(flags)
        shared = torch.tensor([int(f) for f in flags], dtype=torch.int32)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        return [bool(f) for f in shared.tolist()]

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, by rank; a value that pickle takes, gathered at row points at most."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return values summed over all ranks."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values


def join(threads: int) -> Place:
    """Join the ranks of this job; cheap when called again.

    Args:
        threads: CPU threads of this rank; they change the order of sums.
    """
    torch.set_num_threads(threads)
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.cuda.set_device(device)
        torch.use_deterministic_algorithms(True, warn_only=True)
    if not dist.is_initialized():
        if not cuda:
            _keep_freed_memory()
        _join_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        _tame_deepspeed(cuda)
    return Place(rank=dist.get_rank(), world=dist.get_world_size(), device=device)


def leave() -> None:
    """Let go of the other ranks, if this process has joined them; each of them calls it, after its last stage.

    Left to the end of the process, gloo's threads may outlive what they use: on a busy machine 8 of 200 ranks were
    aborted so (SIGABRT), none of 200 after this. At one bad exit Slurm kills the ranks that are still committing.
    """
    if dist.is_initialized():
        dist.destroy_process_group()


def _keep_freed_memory() -> None:
    """Keep what is freed for the next step.

    By default glibc returns tensors of some megabytes to the kernel, which clears them page by page when they are asked
    for again: a tenth of the processor time of a step at `tiny` (benchmarks/README.md).
    """
    with suppress(AttributeError, OSError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def _join_group(backend: str) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group(backend)
        return
    store = dist.HashStore()  # type: ignore[attr-defined] # public, but not listed in the package's exports
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    os.environ.setdefault("LOCAL_RANK", "0")


def _tame_deepspeed(cuda: bool) -> None:
    """Silence DeepSpeed, and keep it from probing for and compiling its C++ operators (40 s, and another sum order)."""
    if not cuda:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="`torch.distributed", category=FutureWarning)
    import deepspeed.ops
    import deepspeed.utils

    deepspeed.utils.logger.setLevel(logging.WARNING)
    vars(deepspeed.ops)["__compatible_ops__"] = {}
    _spare_waits()


def _spare_waits() -> None:
    """Keep DeepSpeed 0.19.8 from waiting for the device in every step of ZeRO 1 to 3; tested for every layout.

    It asks whether the norm is finite, to leave an update out, and in bf16 under ZeRO 1 whether to clip. The loop looks
    at all norms before anything of an update is kept, and a factor of 1 changes no bit.
    """
    from deepspeed.runtime import bf16_optimizer
    from deepspeed.runtime.zero import stage3, stage_1_and_2

    def clip(*, input_tensors: list[torch.Tensor], max_norm: float, global_norm: torch.Tensor, mpu: None) -> None:
        torch._foreach_mul_(input_tensors, torch.clamp(max_norm / (global_norm + 1e-6), max=1.0))

    for module in (bf16_optimizer, stage_1_and_2, stage3):
        module.is_invalid_grad_norm = lambda norm: False
    bf16_optimizer.clip_tensors_by_global_norm = clip


def seed_globals(seed: int, rank: int) -> None:
    """Seed the global generators: dropout draws from torch's, and a plug-in that draws from any stays reproducible."""
    random.seed(f"{seed}/{rank}")
    np.random.seed((seed * 1_000_003 + rank) % 2**32)
    torch.manual_seed(seed * 1_000_003 + rank)
