"""What a sweep file may say about stages that end without a result: `run.policy`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sweeps.language.stage import Written
from sweeps.language.units import Duration

Tries = Annotated[int, Field(ge=1, le=1000)]


class Policy(Written):
    """How often a stage may end in each way before it is given up, counted since the command was run.

    An interrupted attempt (timeout, preempted, node, hang, unknown) that came further than the one before counts for
    nothing, and the count begins anew: a stage that advances is never given up for being interrupted.
    """

    timeout: Tries = 1
    """Met the time limit. Once without coming further is enough: the limit is shorter than a checkpoint interval."""
    preempted: Tries = 3
    """Had to make room for another job, or was asked to leave by somebody else."""
    node: Tries = 3
    """Its node failed."""
    hang: Tries = 3
    """Made no step any more."""
    unknown: Tries = 3
    """Was killed without a word."""
    oom_host: Tries = 1
    """Ran out of memory."""
    code: Tries = 1
    """Raised an error."""
    data: Tries = 1
    """Could not use what it reads."""
    oom_gpu: Literal["halve", "stop"] = "halve"
    """Ran out of GPU memory: `halve` the micro-batch, down to one sequence, accumulating more often; or `stop`."""
    exclude_node_after: Annotated[int, Field(ge=1)] = 2
    """Different stages that fail on a node before no more jobs are sent there."""
    breaker: Annotated[int, Field(ge=2)] | None = 3
    """The sweep pauses when so many stages die alike and none of their kinds succeeded; null: never."""
    breaker_within: Duration = Duration("60 s")
    """What counts as dying at once."""
