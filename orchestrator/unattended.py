"""What `cancel` does where jobs live on a cluster without a controller: it takes the sweep for a moment.

On this machine there is nothing to do: jobs leave with their controller, or are adopted by the next one.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster import registry
from cluster.job import Executor, JobHandle, JobState
from orchestrator.ownership import begin
from orchestrator.targets import read_plan
from orchestrator.watch import controller
from sweeps.errors import EnvironmentError_, OwnedError
from sweeps.store import claims, requests
from sweeps.store.layout import Layout
from sweeps.store.ledger import State, fold, read_events


def withdraw(store: Layout, name: str) -> int | None:
    """Apply what was asked of a sweep that nobody controls, and ask the jobs that nobody wants any more to leave.

    Returns:
        How many jobs were asked; None: the sweep has a controller by now, which does it.

    Raises:
        UsageError: its cluster profile is gone.
        EnvironmentError_: the cluster does not say which jobs there are; nothing was applied.
    """
    folder = store.sweep(name)
    before = fold(read_events(folder))
    executor = _executor(before.cluster, store)
    try:
        ledger, state = begin(folder, takeover=False)
    except OwnedError:
        return None
    try:
        asked = requests.pending(folder)
        for request in asked:
            trials = set(request.trials)
            cancels = request.wish is requests.Wish.CANCEL
            state.cancelled = state.cancelled | trials if cancels else state.cancelled - trials
        live = _live(executor, set(_unwanted(store, name, state)))
        for request in asked:
            ledger.append(request.wish.done, trials=request.trials)
            requests.remove(folder, request)
        if live:
            ledger.append("asked", jobs=[(h.submission, h.index) for h in live])
        executor.cancel(live)
        return len(live)
    finally:
        ledger.close(exit_code=before.exit_code)


def _executor(cluster: str, store: Layout) -> Executor:
    options = dict(registry.load(cluster).values)
    return registry.make(options.pop("executor"), folder=store.jobs, options=options)


def _unwanted(store: Layout, name: str, state: State) -> Iterator[tuple[str, int]]:
    """Yield the jobs, as submission and index, of whose open stages neither this sweep nor a living one wants any."""
    plan = read_plan(store, name)
    wanted = {step["fingerprint"] for trial, values in plan.trials.items() if trial not in state.cancelled
              for step in values["path"]}
    alive: dict[str, bool] = {name: False}

    def elsewhere(key: str) -> bool:
        for other in claims.interested(store.stage(plan.stages[key]["kind"], key)):
            if other not in alive:
                alive[other] = bool(controller(fold(read_events(store.sweep(other)))))
            if alive[other]:
                return True
        return False

    for submission in state.submissions.values():
        for index, ticket in enumerate(submission.tickets):
            left = [key for key in ticket if key in plan.stages
                    and not store.stage(plan.stages[key]["kind"], key).result.exists()]
            if index not in submission.ended and left and not any(key in wanted or elsewhere(key) for key in left):
                yield submission.name, index


def _live(executor: Executor, jobs: set[tuple[str, int]]) -> list[JobHandle]:
    """Return those of the jobs that have not ended."""
    found = [h for name in sorted({name for name, _ in jobs}) for h in executor.find(name) if (name, h.index) in jobs]
    reports = executor.poll(found)
    if unknown := next((r for r in reports if r.state is JobState.UNKNOWN), None):
        raise EnvironmentError_(f"what job {unknown.handle.job_id} does is not known now: {unknown.detail}")
    return [r.handle for r in reports if r.state is not JobState.ENDED]
