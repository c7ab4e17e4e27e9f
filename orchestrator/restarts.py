"""What it cost that the cluster itself put jobs back into its queue: after a preemption, or because a node was gone.

Such a restart keeps the job's id and asks nobody. A controller that sees one writes it into the ledger; what the cut
attempts used is read from their records. Light: `status` reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from orchestrator.meter import attempt_gpu_seconds, execution_of
from sweeps.errors import RecordError
from sweeps.store.layout import AttemptFolder, Layout, StageFolder
from sweeps.store.ledger import State
from sweeps.store.records import furthest, newest_attempt, read_result
from sweeps.store.stretch import Stretch, stretch


def cost(layout: Layout, kinds: Mapping[str, str], state: State) -> Mapping[str, Any]:
    """Return what restarts have cost a sweep; empty where there was none.

    Args:
        layout: the store.
        kinds: stage -> kind, of the sweep's plan.
        state: what its ledger says.

    Returns:
        `restarts`: how many; `classes`: class -> how often a controller saw it; `gpu_hours` of the attempts that they
        cut off; `lost_tokens`: of each that trained, the tokens that are trained again.
    """
    count = sum(sum(s.restarts.values()) for s in state.submissions.values())
    if not count:
        return {}
    pairs = {(key, event["name"]) for event in state.restarted for key in event["stages"] if key in kinds}
    cut = [attempt for key, name in sorted(pairs) for attempt in _cut_off(layout.stage(kinds[key], key), name)]
    return {"restarts": count, "classes": Counter(event["class"] for event in state.restarted),
            "gpu_hours": sum(map(attempt_gpu_seconds, cut)) / 3600,
            "lost_tokens": [came.lost for _, came in _trained(cut)]}


def _cut_off(stage: StageFolder, submission: str) -> list[AttemptFolder]:
    """Return a job's attempts at a stage but for the one that its newest start made, or that gave the result."""
    mine = [a for a in _attempts(stage) if execution_of(a).get("submission") == submission]
    result = None
    with suppress(RecordError):
        result = read_result(stage)
    kept = result.attempt if result else max((a.number for a in mine), default=0)
    return [attempt for attempt in mine if attempt.number != kept]


def saved_by(stage: StageFolder, submission: str) -> int | None:
    """Return the furthest checkpoint, in tokens, that a job's own attempts at a stage left; None: it made none."""
    mine = (a for a in _attempts(stage) if execution_of(a).get("submission") == submission)
    return max((furthest(a) or 0 for a in mine), default=None)


def _attempts(stage: StageFolder) -> Iterator[AttemptFolder]:
    return map(stage.attempt, range(1, newest_attempt(stage) + 1))


def again(states: Iterable[State], fingerprint: str) -> Iterator[str]:
    """Yield a line for each time that the cluster itself put a stage's job back into its queue."""
    for event in (e for state in states for e in state.restarted if fingerprint in e["stages"]):
        why = f": {event['class']} ({event['detail']})" if event["detail"] else "; the cluster does not say why"
        yield f"the cluster itself put its job back into the queue, seen {event['time']}{why}"


def lost(stage: StageFolder, committed: int) -> Iterator[str]:
    """Yield what the attempts that gave no result trained in vain; nothing where there is none, or it trains nothing.

    By their records: a restart of the cluster's may have been seen by nobody.
    """
    for attempt, came in _trained(a for a in _attempts(stage) if a.number != committed):
        yield (f"attempt {attempt.number} came to {came.reached:,} tokens and saved {came.saved:,}: "
               f"{came.lost:,} were trained again")


def _trained(attempts: Iterable[AttemptFolder]) -> Iterator[tuple[AttemptFolder, Stretch]]:
    """Yield the attempts that trained something, and what, as far as their records can be read."""
    for attempt in attempts:
        with suppress(RecordError):
            came = stretch(attempt)
            if came.reached:
                yield attempt, came
