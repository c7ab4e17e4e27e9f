"""Which stages go into the next ticket. Pure: positions and estimates in, a list of stages out.

A ticket runs its stages one after another, so a stage may follow its inputs inside one ticket: imports are paid once
per job, and a whole trial travels together.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from sweeps.language.graph import Graph, Node
from sweeps.language.units import Pack
from sweeps.store.records import Result

START_SECONDS = 6.0
"""What a job costs before its first stage computes: torch, DeepSpeed and transformers are imported."""
SHORT_SECONDS = 120.0
"""Where a pack is a number of stages, a stage estimated longer than this fills it up."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a ticket takes: stages until their weights reach the limit."""

    limit: float
    weigh: Callable[[Node], float]


class Packer:
    """Keeps the ready stages in the order of their trials, and hands out tickets."""

    def __init__(self, graph: Graph, seconds: Callable[[Node], float]) -> None:
        """`seconds` estimates a stage's time on one slot."""
        self.graph = graph
        self.seconds = seconds
        self._order = {key: position for position, key in enumerate(graph.nodes)}
        self._readers: dict[str, list[str]] = {}
        for key, node in graph.nodes.items():
            for needed in self.needs(node):
                self._readers.setdefault(needed, []).append(key)

    def needs(self, node: Node) -> Iterator[str]:
        """Yield the stages that must be complete before `node` starts: inputs, the trunk point before it, its gate."""
        for i in node.spec.inputs:
            yield i.fingerprint
        if node.after is not None:
            yield node.after.fingerprint
        if node.gate is not None:
            yield node.gate

    def readers(self, key: str) -> list[str]:
        """Return the stages that wait for `key`."""
        return self._readers.get(key, [])

    def _rank(self, key: str) -> tuple[int, int]:
        return self.graph.nodes[key].priority, self._order[key]

    def ready(self, waiting: Iterable[str], done: Collection[str], ended: Collection[str]) -> list[str]:
        """Return the waiting stages that may start, in the order in which they should.

        Inputs and gate must be done; the trunk point before must have ended, in whatever way: it is no input.
        """
        found = (k for k in waiting if self._may_start(self.graph.nodes[k], done, ended))
        return sorted(found, key=self._rank)

    @staticmethod
    def _may_start(node: Node, done: Collection[str], ended: Collection[str]) -> bool:
        return all(i.fingerprint in done for i in node.spec.inputs) and (
            node.after is None or node.after.fingerprint in ended) and (node.gate is None or node.gate in done)

    def room(self, pack: Pack, waiting: Iterable[str], slots: int) -> Room:
        """Return what the next tickets take: about so many seconds, fewer near the end; or exactly so many stages."""
        stages = pack.stages
        if stages is None:
            left = total_seconds(self.graph, waiting, self.seconds)
            return Room(limit=pack_limit(pack.seconds, left, slots), weigh=self.seconds)
        return Room(limit=stages, weigh=lambda node: 1 if self.seconds(node) <= SHORT_SECONDS else stages)

    def ticket(self, ready: list[str], waiting: Collection[str], ended: Collection[str], room: Room) -> list[str]:
        """Take stages from `ready` (which shrinks), and what they make ready, until the ticket is full.

        A stage that follows one in the ticket is preferred to another trial's: the same trial first. None follows its
        gate inside one ticket: whether it runs at all is not known before the gate has spoken.
        """
        heap = [(self._rank(k), k) for k in ready]
        heapq.heapify(heap)
        chosen: dict[str, None] = {}
        total = 0.0
        while heap and (total < room.limit or not chosen):
            _, key = heapq.heappop(heap)
            if key in chosen:
                continue
            chosen[key] = None
            total += room.weigh(self.graph.nodes[key])
            for reader in self.readers(key):
                node = self.graph.nodes[reader]
                if reader in waiting and reader not in chosen and node.gate not in chosen and all(
                    n in ended or n in chosen for n in self.needs(node)
                ):
                    heapq.heappush(heap, (self._rank(reader), reader))
        ready[:] = [k for k in ready if k not in chosen]
        return list(chosen)


def pack_limit(pack_seconds: float, waiting_seconds: float, slots: int) -> float:
    """Return a ticket's length: `pack_seconds`, shorter near the end so that no slot idles long.

    Never under `START_SECONDS` times five, or starting processes would cost more than the balance saves.
    """
    return max(min(pack_seconds, waiting_seconds / max(slots, 1)), min(pack_seconds, 5 * START_SECONDS))


def total_seconds(graph: Graph, keys: Iterable[str], seconds: Callable[[Node], float]) -> float:
    """Return the sum of the estimates."""
    return sum(seconds(graph.nodes[k]) for k in keys)


def add_measurement(measured: dict[str, tuple[float, float]], node: Node, result: Result) -> None:
    """Add a finished stage to kind -> (FLOPs, seconds).

    Of training the seconds in its loop (imports are not counted). Of scoring all seconds of its attempt, if it had one
    alone: one that goes on after another, or ends with a model that cannot be scored, would pass for fast.
    """
    speed = result.scores.get("tokens_per_second", 0.0)
    whole = result.attempt == 1 and result.status == "done"
    took = (node.tokens / speed if speed > 0 else 0.0) if node.tokens else result.seconds if whole else 0.0
    if node.work and took > 0:
        flops, seconds = measured.get(node.spec.kind, (0.0, 0.0))
        measured[node.spec.kind] = (flops + node.work, seconds + took)


def throughput(measured: Mapping[str, tuple[float, float]], kind: str, guess: float) -> float:
    """Return FLOPs per second of a kind: measured (FLOPs, seconds) where there is any, else the guess."""
    flops, seconds = measured.get(kind, (0.0, 0.0))
    return flops / seconds if seconds > 0 and flops > 0 else guess
