"""Every word that Slurm has for a job's state, and what it means here. Pure; from the manuals of its clients.

A job is in one base state and may carry flags; clients print one word, several with `,` between, or a `+` where the
column was too narrow. A flag that says the job is not over outranks a base state that says it is: a preempted job that
was requeued is PREEMPTED in one list and REQUEUED in the next, and it is not over. What nobody knows is never over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cluster.job import JobState

BASE = {
    "BOOT_FAIL": JobState.ENDED,
    "CANCELLED": JobState.ENDED,
    "COMPLETED": JobState.ENDED,
    "DEADLINE": JobState.ENDED,
    "FAILED": JobState.ENDED,
    "NODE_FAIL": JobState.ENDED,
    "OUT_OF_MEMORY": JobState.ENDED,
    "PENDING": JobState.PENDING,
    "PREEMPTED": JobState.ENDED,
    "RUNNING": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
    "TIMEOUT": JobState.ENDED,
}
"""Base states. Those that end a job do so only where the controller daemon still says so: it puts a job that it
requeues back to PENDING at once, while the accounting database may show the former record for minutes."""

FLAGS = {
    "COMPLETING": JobState.RUNNING,
    "CONFIGURING": JobState.PENDING,
    "EXPEDITING": JobState.PENDING,
    "LAUNCH_FAILED": JobState.UNKNOWN,
    "POWER_UP_NODE": JobState.PENDING,
    "RECONFIG_FAIL": JobState.UNKNOWN,
    "REQUEUED": JobState.PENDING,
    "REQUEUE_FED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.PENDING,
    "RESIZING": JobState.RUNNING,
    "RESV_DEL_HOLD": JobState.PENDING,
    "REVOKED": JobState.UNKNOWN,
    "SIGNALING": JobState.RUNNING,
    "SPECIAL_EXIT": JobState.PENDING,
    "STAGE_OUT": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "UPDATE_DB": JobState.UNKNOWN,
}
"""Flags. None ends a job: with COMPLETING its processes may still write, with REVOKED it may run elsewhere."""

WORDS = {**BASE, **FLAGS}
HELD = frozenset({"REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
"""States that last until somebody releases the job."""

TURN = frozenset({"", "None", "Priority", "Resources", "BeginTime", "Cleaning", "Prolog", "JobArrayTaskLimit",
                  "Reservation", "SchedDefer"})
"""Reasons of a job that waits for its turn and nothing else. Whatever else Slurm says, a limit for instance, may last
for ever, and is to be shown to a person."""

_ORDER = (JobState.RUNNING, JobState.PENDING, JobState.UNKNOWN, JobState.ENDED)
"""Of several words the first of these counts."""
_SEPARATORS = re.compile(r"[\s,]+")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a state's text means."""

    state: JobState
    words: tuple[str, ...]
    """The words in full, without `by UID`; a word that is not known as it was."""
    unknown: tuple[str, ...] = ()
    """Those that this table does not have; they are to be shown to a person."""

    @property
    def word(self) -> str:
        """The words, for people."""
        return ",".join(self.words)

    @property
    def held(self) -> bool:
        """True for a job that waits until somebody releases it."""
        return not HELD.isdisjoint(self.words)


def read(text: str) -> Reading:
    """Return what the text of a state means.

    Args:
        text: as a client prints it: `RUNNING`, `CANCELLED by 1000`, `CANCELLED+`, `PREEMPTED,REQUEUED`.
    """
    words = tuple(filter(None, _SEPARATORS.split(re.sub(r"\bby\s+\S+", "", text.strip()))))
    full = tuple(_whole(word) for word in words)
    states = [WORDS.get(word, JobState.UNKNOWN) for word in full]
    state = min(states, key=_ORDER.index, default=JobState.UNKNOWN)
    return Reading(state=state, words=full, unknown=tuple(word for word in full if word not in WORDS))


def _whole(word: str) -> str:
    """Return the word that a truncated one (`CANCELLED+`) stands for, where only one can be meant."""
    if not word.endswith("+"):
        return word
    meant = [known for known in WORDS if known.startswith(word[:-1])]
    return meant[0] if len(meant) == 1 and word != "+" else word
