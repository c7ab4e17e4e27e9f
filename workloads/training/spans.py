"""Times of what a device does again and again, without waiting for it."""

from __future__ import annotations

import time
from typing import Any

import torch


class Spans:
    """Spans between `begin` and `end`. Marking one costs about a microsecond and never waits.

    On a CPU by the host's clock. On a GPU by events in its stream: the device notes when it comes to them, and the host
    reads them at row points alone (`take`), where it waits for the device anyway.
    """

    def __init__(self, device: torch.device) -> None:
        """Measure what `device` does."""
        self._cuda = device.type == "cuda"
        self._began: Any = None
        self._spans: list[tuple[Any, Any]] = []

    def begin(self) -> None:
        """A span begins; one that has begun and not ended is forgotten."""
        self._began = self._mark()

    def end(self) -> None:
        """The span ends."""
        self._spans.append((self._began, self._mark()))

    def take(self) -> list[float]:
        """Return the seconds of each span since the last call; waits for the device."""
        spans, self._spans = self._spans, []
        if not self._cuda:
            return [end - began for began, end in spans]
        if spans:
            spans[-1][1].synchronize()
        return [began.elapsed_time(end) / 1000 for began, end in spans]

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event
