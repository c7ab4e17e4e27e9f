"""Stage `rules`: one block of accepted rules of an upstream's bank. Light until it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from sweeps.errors import UsageError
from sweeps.language.plugins import StageKind, Upstream
from sweeps.language.science import BlockScience

if TYPE_CHECKING:
    from workloads.contract import MakeBank, StageContext


def run(context: StageContext) -> Mapping[str, float]:
    """Make rules `first .. first + count - 1` of the bank that the section `bank` describes; return its scores.

    Raises:
        Stopped: the job was asked to leave; raised by the upstream's code after `progress` said so.
    """
    upstream = context.plugin("bank")
    if not isinstance(upstream, Upstream) or not upstream.bank_implementation:
        raise UsageError("the upstream of section `bank` states no bank_implementation")
    make = cast("MakeBank", upstream.load_bank())
    block: BlockScience = context.science["block"]

    def progress(done: int) -> bool:
        context.attempt.row(tokens=0, kind="progress", values={"done": done, "of": block.count})
        context.pulse.step()
        return context.should_stop()

    return make(
        context.science["bank"], seed=context.science["seed"].seed, stream=block.stream, first=block.first,
        count=block.count, folder=context.attempt.artifacts, progress=progress,
    )


PLUGIN = StageKind(science=BlockScience, revision=2, implementation="workloads.stages.rules:run")
