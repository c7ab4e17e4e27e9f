"""What the cards of a run can do: the specified bf16 peak by a small table, and a measured one.

    specified   NVIDIA's data sheets state tensor-core rates with 2:4 sparsity; dense products reach half of them, which
                is what stands here
    measured    large bf16 matrix products on the very card: what clocks, power limits and neighbours leave of it
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from statistics import median

import torch

from sweeps.language.presets import GPU_FLOPS_PER_SECOND
from sweeps.store import files
from sweeps.store.layout import AttemptFolder
from workloads.training.process import Place
from workloads.training.spans import Spans

MATMUL_SIDE = 8192
"""Rows and columns of the measured product: 1.1 TFLOP, and 400 MB for its three matrices."""
MATMUL_RUNS, MATMUL_SECONDS = 30, 0.5
"""Products that are timed: so many, or what fits into this time."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One line of the table."""

    name: str
    """Pattern for what the driver calls it (`torch.cuda.get_device_name`)."""
    flops: float
    """bf16 with fp32 accumulation, dense, FLOP/s."""
    source: str


CARDS = (
    Card(name="H200 NVL", flops=835.5e12, source="NVIDIA H200 data sheet: 1,671 TFLOP/s with sparsity"),
    Card(name="H100 NVL", flops=835.5e12, source="NVIDIA H100 data sheet: 1,671 TFLOP/s with sparsity"),
    Card(name="H100 PCIe", flops=756.5e12, source="NVIDIA H100 data sheet: 1,513 TFLOP/s with sparsity"),
    Card(name="H200|GH200|H100", flops=GPU_FLOPS_PER_SECOND,
         source="NVIDIA H100, H200 and GH200 data sheets (SXM): 1,979 TFLOP/s with sparsity"),
    Card(name="B200", flops=2250e12, source="NVIDIA Blackwell data sheet: 4,500 TFLOP/s with sparsity"),
    Card(name="A100|A800", flops=312e12, source="NVIDIA A100 data sheet: 312 TFLOP/s dense, 624 with sparsity"),
    Card(name="L40S", flops=362e12, source="NVIDIA L40S data sheet: 362 TFLOP/s dense, 733 with sparsity"),
)
"""The first whose name is found counts."""


def card_of(device: str) -> Card | None:
    """Return the table's line for a card by the name that its driver gives it; None: it is not in the table."""
    return next((card for card in CARDS if re.search(rf"\b(?:{card.name})\b", device)), None)


@dataclass(frozen=True, kw_only=True)
class Cards:
    """The cards of a run, one a rank."""

    devices: tuple[str, ...]
    """What the driver calls them; empty without GPUs."""
    matmul: tuple[float, ...] = ()
    """FLOP/s of each, measured; empty where one knows no bf16."""

    @property
    def specified_flops(self) -> float | None:
        """All cards together, FLOP/s; None without GPUs, and where one is not in the table."""
        found = [card_of(device) for device in self.devices]
        return sum(card.flops for card in found if card) if found and all(found) else None

    @property
    def matmul_flops(self) -> float | None:
        """All cards together as measured, FLOP/s; None where that is not known."""
        return sum(self.matmul) if self.matmul else None



@cache
def cards_of(place: Place) -> Cards:
    """Return the cards of all ranks, measured once per process; every rank must call it. Costs under a second."""
    if place.device.type != "cuda":
        return Cards(devices=())
    found = place.gather((torch.cuda.get_device_name(place.device), matmul_flops(place.device)))
    measured = tuple(flops for _, flops in found if flops is not None)
    return Cards(devices=tuple(name for name, _ in found), matmul=measured if len(measured) == len(found) else ())


def record(cards: Cards, attempt: AttemptFolder) -> None:
    """Write what an attempt keeps of its cards; nothing without GPUs. Called by rank 0."""
    if not cards.devices:
        return
    known = {device: card_of(device) for device in cards.devices}
    files.create(attempt.cards, files.to_json({
        "schema_version": files.SCHEMA_VERSION, "devices": list(cards.devices), "matmul_flops": list(cards.matmul),
        "specified": {d: {"flops": c.flops, "source": c.source} if c else None for d, c in known.items()},
    }), durable=files.Durable.CONTENT)


def matmul_flops(device: torch.device, side: int = MATMUL_SIDE) -> float | None:
    """Return the median FLOP/s of products of two square bf16 matrices; None where the card knows no bf16.

    The numbers are random, since a card's power limit binds less on zeros, and from a generator of their own, since the
    global one belongs to the training.
    """
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    own = torch.Generator(device).manual_seed(0)
    one, two, out = (torch.randn(side, side, generator=own, device=device).bfloat16() for _ in range(3))
    spans, seconds = Spans(device), list[float]()
    torch.mm(one, two, out=out)  # chooses and loads the kernel
    while len(seconds) < MATMUL_RUNS and sum(seconds) < MATMUL_SECONDS:
        spans.begin()
        torch.mm(one, two, out=out)
        spans.end()
        seconds += spans.take()
    del one, two, out
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return 2.0 * side**3 / median(seconds)
