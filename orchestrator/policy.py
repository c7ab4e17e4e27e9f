"""What follows from a failure's class. Pure: an ended attempt and the sweep's policy in, an action and words out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cluster.failures import WORDS, Failure
from sweeps.errors import BreakerError
from sweeps.language.policy import Policy

INTERRUPTIONS = frozenset({Failure.TIMEOUT, Failure.PREEMPTED, Failure.NODE, Failure.HANG, Failure.UNKNOWN})
"""Ends that say nothing about the stage itself: one that came further is simply gone on with."""
COUNTED = INTERRUPTIONS | {Failure.OOM_HOST, Failure.CODE, Failure.DATA}
"""Classes for which the policy has a number."""
NAMED = 4
"""Stages that one line names."""
ADVICE = {
    Failure.TIMEOUT: "it came no further than where it began: the time limit is shorter than a checkpoint interval; "
                     "give jobs more time in the cluster profile (time_limit_min), or lower run.checkpoint_every",
    Failure.OOM_HOST: "give its job more memory in the cluster profile (memory_mb), or run fewer jobs at once (slots)",
    Failure.OOM_GPU: "use a smaller run.micro_batch, run.activation_checkpointing, more run.ranks or run.offload; "
                     "engine.loss_chunk where the vocabulary is large, though it makes other stages",
}
"""What helps against a failure that is not tried again."""
EVALUATES = ("evaluations take 16 sequences at a time, always: in another shape an arm's scores would differ from the "
             "others' in their last bits. Use GPUs with more memory (gpu_type or constraint in the cluster profile)")
"""What helps a stage that does not train, and has run out of GPU memory."""


class Action(StrEnum):
    """What is done about an attempt that ended without a result."""

    RESUME = "resume"
    HALVE = "halve"
    GIVE_UP = "give up"
    CANCEL = "cancel"
    PAUSE = "pause"


@dataclass(frozen=True, kw_only=True)
class End:
    """An attempt without a result, as far as the policy must know it."""

    failure: Failure
    asked: bool = False
    """This sweep's own controller asked it to leave."""
    advanced: bool = False
    """It left a checkpoint further than where it began."""
    whole: bool = True
    """It had its job's whole time: no other stage of the ticket ran before it."""
    mended: bool = False
    """It is an older reign's job, and there is space now: that it found none is known, and is past."""
    refused: bool = False
    """The cluster did not take its job: nothing of it ran, and all others of the profile would fare alike."""
    trains: bool = True
    """It has a micro-batch, which a person may make smaller."""
    half_batch: int | None = None
    """Sequences per forward pass and rank after halving; None: it is one already."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """An action, and what a person is told of it."""

    action: Action
    text: str


@dataclass(kw_only=True)
class Record:
    """How often a stage has ended in each way since it last came further."""

    counts: Counter[Failure] = field(default_factory=Counter)

    def restarted(self, failure: Failure, *, advanced: bool, policy: Policy) -> bool:
        """Count a start that the cluster itself made anew; True where its job's end is to be the last one.

        What the cluster calls something else than a preemption or a node's failure is nobody's verdict on the stage.
        """
        known = failure if failure in (Failure.PREEMPTED, Failure.NODE) else Failure.UNKNOWN
        if self.decide(End(failure=known, advanced=advanced), policy).action is not Action.GIVE_UP:
            return False
        self.counts[known] -= 1  # its end counts
        return True

    def decide(self, end: End, policy: Policy) -> Decision:
        """Count an end, and return what follows."""
        failure = end.failure
        if end.refused:
            return Decision(action=Action.PAUSE, text="the sweep ends; once the cluster profile is right, the same "
                                                      "command goes on")
        if failure is Failure.STORAGE and end.mended:
            return Decision(action=Action.RESUME, text="there is space again, and it goes on")
        if failure is Failure.STORAGE:
            return Decision(action=Action.PAUSE, text="the sweep pauses until there is space")
        if failure is Failure.CANCELLED:
            if end.asked:
                return Decision(action=Action.RESUME, text="it is wanted again, and goes on")
            return Decision(action=Action.CANCEL, text="not run again before `orchestrator retry`")
        if failure is Failure.OOM_GPU and policy.oom_gpu == "halve" and end.half_batch is not None:
            return Decision(action=Action.HALVE, text=f"goes on with micro_batch {end.half_batch}, accumulating "
                                                      "more often")
        if failure in INTERRUPTIONS and (end.advanced or (failure is Failure.TIMEOUT and not end.whole)):
            self.counts = Counter({f: n for f, n in self.counts.items() if f not in INTERRUPTIONS})
            return Decision(action=Action.RESUME, text="goes on from its last checkpoint")
        self.counts[failure] += 1
        times, allowed = self.counts[failure], int(getattr(policy, failure)) if failure in COUNTED else 1
        if times < allowed:
            text = f"tried again ({times} of {allowed} times without coming further)"
            return Decision(action=Action.RESUME, text=text)
        often = f"{times} times without coming further; " if times > 1 else ""
        advice = EVALUATES if failure is Failure.OOM_GPU and not end.trains else ADVICE.get(failure, "not tried again")
        return Decision(action=Action.GIVE_UP, text=often + advice)


def told(failure: Failure, reason: str) -> str:
    """Return a failure for people: `raised an error: ValueError: no such rule`."""
    return f"{WORDS[failure]}: {reason}" if reason else WORDS[failure]


@dataclass(kw_only=True)
class Nodes:
    """Which nodes fail stages."""

    exclude_after: int
    failed: dict[str, set[str]] = field(default_factory=dict)
    """Node -> stages that failed there."""

    def note(self, node: str, stage: str) -> bool:
        """Note a stage that failed for its node's sake; True where the node is excluded from now on."""
        stages = self.failed.setdefault(node, set())
        before = len(stages)
        stages.add(stage)
        return before < len(stages) == self.exclude_after

    @property
    def excluded(self) -> tuple[str, ...]:
        """Nodes to which no job is sent any more."""
        return tuple(sorted(node for node, stages in self.failed.items() if len(stages) >= self.exclude_after))


@dataclass(frozen=True, kw_only=True)
class Death:
    """A stage that was given up."""

    kind: str
    """The stage's: `text`, `pretrain`."""
    label: str
    failure: Failure
    seconds: float | None
    """From its start to its end; None: not known."""
    last_line: str
    """Of the traceback, or of the log."""
    text: str
    """The whole traceback, or what else is known."""

    @property
    def cause(self) -> tuple[Failure, str]:
        """What two deaths have in common: the class and the last line, whatever numbers and addresses are in it."""
        return self.failure, re.sub(r"0x[0-9a-f]+|[0-9a-f]{12,}|\d+", "#", self.last_line)


@dataclass(kw_only=True)
class Breaker:
    """Pauses a sweep whose first stages all die of the same cause, before a cluster's hours go into the rest.

    What counts are stages of kinds that have not shown yet that they can run: texts and tokenizers succeed wherever
    there is a processor, and say nothing about GPUs.
    """

    policy: Policy
    _cleared: set[str] = field(default_factory=set)
    """Kinds whose failures are the stages' own: one succeeded, lived long, or died of something else."""
    _deaths: list[Death] = field(default_factory=list)

    def succeeded(self, kind: str) -> None:
        """Note that a stage has a result."""
        self._cleared.add(kind)

    def died(self, death: Death) -> None:
        """Note a stage that was given up; one that lived long, or died of something else, clears its kind for good.

        The cluster's doings (time limits, preemption, nodes) say nothing about what the sweep would run into.
        """
        if death.failure in INTERRUPTIONS - {Failure.UNKNOWN}:
            return
        first = next((d for d in self._deaths if d.kind == death.kind), death)
        quick = death.seconds is not None and death.seconds <= self.policy.breaker_within.seconds
        if not quick or death.cause != first.cause:
            self._cleared.add(death.kind)
        self._deaths.append(death)

    def tripped(self) -> BreakerError | None:
        """Return the pause that is due, with the common traceback once."""
        left = [d for d in self._deaths if d.kind not in self._cleared]
        alike = max(([d for d in left if d.cause == one.cause] for one in left), key=len, default=[])
        if self.policy.breaker is None or len(alike) < self.policy.breaker:
            return None
        return BreakerError("\n".join(self._told(alike)))

    def _told(self, deaths: Sequence[Death]) -> Iterator[str]:
        first, *others = deaths
        yield (f"the first {len(deaths)} {'/'.join(sorted({d.kind for d in deaths}))} stages all "
               f"{WORDS[first.failure]} within {self.policy.breaker_within.seconds:g} s of their start, and none "
               "succeeded; the sweep pauses:")
        yield from (f"  {line}" for line in first.text.splitlines())
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        yield f"({first.label}; also {', '.join(d.label for d in others[:NAMED])}{more})"
        yield "mend the cause and run the same command again; run.policy.breaker changes when this happens"
