"""What is submitted next, built purely: `plan --show-sbatch` shows it, the reconciler submits it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from cluster.job import JobRequest
from orchestrator.board import Board
from orchestrator.memory import job_mb
from orchestrator.plan import Planned
from sweeps.language.stage import Execution
from sweeps.store.ledger import terms


def name(planned: Planned, term: int, count: int) -> str:
    """Return the name of a term's submission number `count`, from 1."""
    return f"{planned.sweep.name}-t{term}-{count:04d}"


def tickets(  # noqa: PLR0913 - what is ready, what there is room for, and how it is to run
    planned: Planned, board: Board, following: Collection[str], *, free: int, slots: int,
    execution: Callable[[str], Execution],
) -> list[list[str]]:
    """Return the stages of each job that may start now, jobs with equal resources: the others come in the next pass.

    Args:
        planned: the sweep.
        board: what its stages are doing.
        following: stages that another sweep runs.
        free: jobs that may be submitted now.
        slots: jobs that may run at a time.
        execution: how a stage is to run; those of one job run in one way.
    """
    waiting = board.waiting - set(following) - board.promotions.held
    if free <= 0 or not waiting:
        return []
    ready = board.packer.ready(waiting, board.done, board.ended)
    room = board.packer.room(planned.sweep.run.pack, waiting, slots)

    def way(key: str) -> tuple[Execution, bool]:
        return execution(key), planned.on_gpus(key)

    found: list[list[str]] = []
    while ready and len(found) < free:
        found.append(_alike(board.packer.ticket(ready, waiting, board.ended, room), way))
        waiting -= set(found[-1])
    resources = [(execution(ticket[0]).ranks, planned.on_gpus(ticket[0])) for ticket in found]
    return [ticket for ticket, asked in zip(found, resources, strict=True) if asked == resources[0]]


def _alike(ticket: Sequence[str], way: Callable[[str], object]) -> list[str]:
    """Return the beginning of a ticket that runs in one way; the rest waits for another ticket."""
    chosen = way(ticket[0])
    end = next((i for i, key in enumerate(ticket) if way(key) != chosen), len(ticket))
    return list(ticket[:end])


def request(planned: Planned, name: str, jobs: Collection[Collection[str]], exclude: tuple[str, ...] = ()
            ) -> JobRequest:
    """Return the submission of one job for each collection of stages; its tickets need not have been written.

    The jobs ask for equal resources (see `tickets`).
    """
    folder = planned.layout.sweep(planned.sweep.name).submissions / name
    any_stage = next(iter(next(iter(jobs))))
    ranks = planned.execution(planned.graph.nodes[any_stage].spec.kind).ranks
    host_mb, activations_mb = map(max, zip(*(job_mb(planned, stages) for stages in jobs), strict=True))
    return JobRequest(
        name=name, tickets=tuple(str(folder / f"{index}.ticket.json") for index in range(len(jobs))),
        folder=str(folder), ranks=ranks, cores=planned.trials[0].core["engine"].threads_per_rank * ranks,
        memory_mb=host_mb, activations_mb=activations_mb, exclude=exclude, gpus=planned.on_gpus(any_stage),
        environment=dict(planned.job_environment),
    )


def first(planned: Planned, slots: int) -> JobRequest | None:
    """Return what `sweep` would submit first, on a cluster that runs none of the store's jobs; None: nothing."""
    jobs = tickets(planned, Board(planned), (), free=slots, slots=slots,
                   execution=lambda key: planned.execution(planned.graph.nodes[key].spec.kind))
    if not jobs:
        return None
    term = max(terms(planned.layout.sweep(planned.sweep.name)), default=0) + 1
    return request(planned, name(planned, term, 1), jobs)


def later(planned: Planned, first: JobRequest) -> dict[tuple[str, ...], JobRequest]:
    """Return kinds of stages -> a submission of one of them, the largest, where it asks for other resources than the
    first submission does."""
    found: dict[tuple[int, bool], list[str]] = {}
    for key in Board(planned).waiting:
        asked = planned.execution(planned.graph.nodes[key].spec.kind).ranks, planned.on_gpus(key)
        if asked != (first.ranks, first.gpus):
            found.setdefault(asked, []).append(key)
    return {
        tuple(sorted({planned.graph.nodes[key].spec.kind for key in keys})):
            request(planned, first.name, [[max(keys, key=lambda key: sum(job_mb(planned, [key])))]])
        for _, keys in sorted(found.items())}
