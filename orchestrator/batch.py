"""What is submitted next, built purely: `plan --show-sbatch` shows it, the reconciler submits it."""

from __future__ import annotations

from collections.abc import Collection

from cluster.job import JobRequest
from orchestrator.board import Board
from orchestrator.memory import job_mb
from orchestrator.plan import Planned
from sweeps.store.ledger import terms


def name(planned: Planned, term: int, count: int) -> str:
    """Return the name of a term's submission number `count`, from 1."""
    return f"{planned.sweep.name}-t{term}-{count:04d}"


def tickets(planned: Planned, board: Board, following: Collection[str], *, free: int, slots: int) -> list[list[str]]:
    """Return the stages of each job that may start now.

    Args:
        planned: the sweep.
        board: what its stages are doing.
        following: stages that another sweep runs.
        free: jobs that may be submitted now.
        slots: jobs that may run at a time.
    """
    waiting = board.waiting - set(following)
    if free <= 0 or not waiting:
        return []
    ready = board.packer.ready(waiting, board.done, board.ended)
    room = board.packer.room(planned.sweep.run.pack, waiting, slots)
    found: list[list[str]] = []
    while ready and len(found) < free:
        found.append(board.packer.ticket(ready, waiting, board.ended, room))
        waiting -= set(found[-1])
    return found


def request(planned: Planned, name: str, jobs: Collection[Collection[str]], exclude: tuple[str, ...] = ()
            ) -> JobRequest:
    """Return the submission of one job for each collection of stages; its tickets need not have been written."""
    folder = planned.layout.sweep(planned.sweep.name).submissions / name
    ranks = planned.execution.ranks
    host_mb, activations_mb = map(max, zip(*(job_mb(planned, stages) for stages in jobs), strict=True))
    return JobRequest(
        name=name, tickets=tuple(str(folder / f"{index}.ticket.json") for index in range(len(jobs))),
        folder=str(folder), ranks=ranks, cores=planned.trials[0].core["engine"].threads_per_rank * ranks,
        memory_mb=host_mb, activations_mb=activations_mb, exclude=exclude,
        environment=dict(planned.job_environment),
    )


def first(planned: Planned, slots: int) -> JobRequest | None:
    """Return what `sweep` would submit first, on a cluster that runs none of the store's jobs; None: nothing."""
    jobs = tickets(planned, Board(planned), (), free=slots, slots=slots)
    if not jobs:
        return None
    term = max(terms(planned.layout.sweep(planned.sweep.name)), default=0) + 1
    return request(planned, name(planned, term, 1), jobs)
