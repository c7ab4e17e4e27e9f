"""What a cluster profile may say. Describes; `cluster.executors._slurm_script` makes the text of it that is submitted.

Everything that ends up in a script is checked against a pattern here: an sbatch value with a line break in it would run
the rest as a command. Setup lines are shell on purpose, and are one line each. Secrets do not belong into a profile:
name a file that holds them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from sweeps.errors import SweepFileError, UsageError, nearest
from sweeps.language.problems import in_order
from sweeps.language.read import Source
from sweeps.language.spec import problem_of
from sweeps.language.stage import Frozen

Options = TypeVar("Options", bound=BaseModel)
SBATCH_KEYS = frozenset({
    "comment", "contiguous", "core-spec", "distribution", "exclude", "exclusive", "gpu-bind", "gpu-freq",
    "gres", "hint", "licenses", "mail-type", "mail-user", "mem-bind", "mem-per-gpu", "network", "nice", "nodelist",
    "oversubscribe", "power", "prefer", "priority", "reservation", "spread-job", "switches", "threads-per-core",
    "thread-spec", "tmp", "tres-per-task", "use-min-nodes", "wckey",
})
"""sbatch options that a profile may set and that nothing here sets itself. Those that would break the bookkeeping
(array, chdir, job-name, output, export, dependency, ...) or hide it (quiet, hold) are not among them."""
FLAG_KEYS = frozenset({"contiguous", "exclusive", "oversubscribe", "spread-job", "use-min-nodes"})
"""Those that may be `true`, without a value."""


def printable(text: str) -> str:
    """Refuse control characters, line breaks of any script, and what only looks empty."""
    bad = next((c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")), None)
    if bad is not None:
        raise ValueError(f"character U+{ord(bad):04X} is not allowed here; use one line of printable text")
    return text


def _only(pattern: str, allowed: str) -> AfterValidator:
    """Refuse text that does not match as a whole, in words instead of a pattern."""
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"write {allowed}")
        return text

    return AfterValidator(check)


_LETTERS = "letters A-Z a-z, digits, `.`, `_` and `-`"
Name = Annotated[str, _only("[A-Za-z0-9._-]{1,64}", f"1 to 64 {_LETTERS}")]
Names = Annotated[str, _only("[A-Za-z0-9._-]{1,64}(,[A-Za-z0-9._-]{1,64})*",
                             f"one name of 1 to 64 {_LETTERS}, or several with commas and without spaces")]
Constraint = Annotated[str, _only(r"[A-Za-z0-9._&|*()\[\],:-]{1,256}", "features as sbatch takes them: `a100&nvlink`")]
Module = Annotated[str, _only("[A-Za-z0-9._/+-]{1,128}", "a module's name, `cuda/12.4`")]
Variable = Annotated[str, _only("[A-Za-z_][A-Za-z0-9_]{0,127}", "the name of an environment variable, without a value")]
Line = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(printable)]
FilePath = Annotated[str, AfterValidator(printable), _only("/.{0,999}", "an absolute path")]
Scratch = Annotated[str, _only("/[A-Za-z0-9._/$-]{1,255}", f"an absolute path of {_LETTERS}, `/` and `$`")]
Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


def _problem(place: tuple[str | int, ...], given: Any, reason: str) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("profile", "{reason}", {"reason": reason}), loc=place, input=given)


def _raise(problems: Sequence[InitErrorDetails]) -> None:
    """Raise problems, each at its own key, so that all of a file are told at once."""
    if problems:
        raise ValidationError.from_exception_data("profile", list(problems))


def _sbatch(options: Any) -> Any:
    if isinstance(options, Mapping):  # else pydantic says that it is no mapping
        wrong = ((key, value, _sbatch_problem(str(key), value)) for key, value in options.items())
        _raise([_problem((str(key),), value, reason) for key, value, reason in wrong if reason])
    return options


def _sbatch_problem(key: str, value: Any) -> str:
    """Return what is wrong with an sbatch option; empty: nothing."""
    if key not in SBATCH_KEYS:
        return f"this sbatch option may not be set here; {nearest(key, SBATCH_KEYS)}"
    if not isinstance(value, str | int) or value is False or (value is True and key not in FLAG_KEYS) or value == "":
        return f"give a value{' or true' if key in FLAG_KEYS else ''}, or leave the line out"
    try:
        printable(str(value))
    except ValueError as error:
        return str(error)
    return ""


class Limits(Frozen):
    """What a sweep may take of the cluster."""

    array_tasks: Count | None = None
    """Jobs of one array; None: what the cluster allows (MaxArraySize)."""
    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    """GPU-hours that one sweep may use on this cluster; None: no limit but the sweep's own."""


def _lead_problems(lead_s: int, time_limit_min: int) -> list[InitErrorDetails]:
    if lead_s < time_limit_min * 60:
        return []
    return [_problem(("lead_s",), lead_s, "a job would be asked to leave before it begins; use less than "
                     f"time_limit_min = {time_limit_min} ({time_limit_min * 60} s)")]


class ControllerJob(Frozen):
    """The small job in which a controller runs (`orchestrator sweep --controller slurm`)."""

    partition: Names | None = None
    """None: that of the sweep's jobs; one without GPUs is enough."""
    qos: Name | None = None
    """None: that of the sweep's jobs."""
    time_limit_min: Count = 1440
    """Wall time of one start, minutes; it goes back into the queue before."""
    lead_s: Count = 300
    """Seconds before the limit at which it does; Slurm may do it up to 60 s earlier."""
    cpus: Count = 2
    memory_mb: Count = 4000

    @model_validator(mode="after")
    def _consistent(self) -> ControllerJob:
        _raise(_lead_problems(self.lead_s, self.time_limit_min))
        return self


class SlurmProfile(Frozen):
    """A Slurm cluster, as far as sweeps need to know it."""

    partition: Names | None = None
    """Partition, or several with commas; None: the cluster's default."""
    cpu_partition: Names | None = None
    """Partition of the jobs that hold no model (texts, tokenizers, corpora, rules), which then ask for no GPU; None:
    these stages run beside the others, wherever those run. `constraint` and the sbatch options of GPUs and
    their nodes do not hold for them; GPU-hours still count them, a rank as one GPU."""
    account: Name | None = None
    qos: Name | None = None
    constraint: Constraint | None = None
    """Node features: `a100&nvlink`."""
    nodes: Count = 1
    """Nodes over which the ranks of one job are spread, evenly."""
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    """GPUs that a node has; each rank gets one. 0: jobs compute on CPUs."""
    gpu_type: Name | None = None
    """Type of GPU, where nodes have several: `a100`."""
    gpu_memory_mb: Count | None = None
    """Memory of one GPU, MB: `plan` warns of a micro-batch that has no room there; None: not known."""
    cpus_per_task: Count | None = None
    """CPUs of one rank; None: the sweep's threads per rank."""
    memory_mb: Count | None = None
    """Memory of a job on each of its nodes, MB; None: what the job is known to need."""
    time_limit_min: Count = 240
    """Wall time after which Slurm ends a job, minutes; the job checkpoints before and is submitted again."""
    lead_s: Count = 120
    """Seconds before the time limit at which a job is asked to checkpoint; Slurm may do it up to 60 s earlier."""
    modules: tuple[Module, ...] = ()
    """`module load` these, in this order."""
    setup: tuple[Line, ...] = ()
    """Shell lines that run in the job before anything else; the job ends where one fails."""
    container: FilePath | None = None
    """Apptainer image in which jobs run; it must hold this package and what it needs."""
    container_options: tuple[Line, ...] = ()
    """Options of `apptainer exec`, a word each: `--nv`, `--bind=/scratch`."""
    python: FilePath | None = None
    """Interpreter of the jobs; None: the one that runs the controller (in a container: its `python3`)."""
    environment: tuple[Variable, ...] = ()
    """Variables of the submitting shell that jobs get beside PATH, HOME and the like; nothing else crosses."""
    scratch: Scratch | None = None
    """Folder on a compute node for temporary files; $USER and $SLURM_JOB_ID are filled in there."""
    slurm_conf: FilePath | None = None
    """slurm.conf of the cluster; None: the SLURM_CONF of the shell, or Slurm's default place."""
    rehearsal: Name | None = None
    """Name of a rehearsal cluster on this machine, which knows its own slurm.conf."""
    sbatch: Annotated[dict[str, str | int | bool], BeforeValidator(_sbatch)] = {}
    """Further sbatch options, without the dashes: `reservation: night`."""
    controller: ControllerJob = ControllerJob()
    slots: Count = 100
    """Jobs of a store that may be queued or running at a time."""
    limits: Limits = Limits()
    interval_s: Seconds = 5.0
    """Seconds between two looks at the queue, whatever the number of jobs."""
    timeout_s: Seconds = 20.0
    """Seconds that a query of Slurm may take."""
    grace_s: Seconds = 120.0
    """Seconds that a cancelled job may take to checkpoint before Slurm kills it."""

    @model_validator(mode="after")
    def _consistent(self) -> SlurmProfile:
        found = _lead_problems(self.lead_s, self.time_limit_min)
        if self.gpu_type and not self.gpus_per_node:
            found.append(_problem(("gpu_type",), self.gpu_type,
                                  "a type without GPUs; set gpus_per_node, or leave it out"))
        if self.rehearsal and self.slurm_conf:
            found.append(_problem(("slurm_conf",), self.slurm_conf,
                                  "a rehearsal knows its own, and `rehearsal` is given; leave one of the two out"))
        _raise(found)
        return self


def slurm_profile(options: Mapping[str, Any], name: str) -> SlurmProfile:
    """Return a profile's options, checked.

    Args:
        options: the keys of the file, without `executor`.
        name: what messages call the profile.

    Raises:
        SweepFileError: with every problem.
    """
    return checked(SlurmProfile, Source(name=name, values=dict(options)))


def checked(model: type[Options], source: Source) -> Options:
    """Return an executor's options from a profile's values, which may hold the key `executor` too.

    Raises:
        SweepFileError: with every problem: file, line, key, value, what is allowed.
    """
    try:
        return model.model_validate({k: v for k, v in source.values.items() if k != "executor"})
    except ValidationError as error:
        raise SweepFileError(in_order(problem_of(source, e, model) for e in error.errors())) from error


def spread(ranks: int, profile: SlurmProfile) -> tuple[int, int]:
    """Return nodes and ranks per node.

    Raises:
        UsageError: they do not come out even, or a node has too few GPUs.
    """
    nodes = min(profile.nodes, ranks)
    per_node, rest = divmod(ranks, nodes)
    if rest:
        raise UsageError(f"{ranks} ranks cannot be spread evenly over nodes = {nodes}; use a multiple of {nodes} "
                         "ranks, or another number of nodes in the cluster profile")
    if profile.gpus_per_node and per_node > profile.gpus_per_node:
        raise UsageError(f"{per_node} ranks a node, but gpus_per_node = {profile.gpus_per_node}; each rank gets one: "
                         "use fewer ranks, or more nodes in the cluster profile")
    return nodes, per_node


def resolved_conf(profile: SlurmProfile) -> str | None:
    """Return the slurm.conf of a profile; None: the shell's.

    Raises:
        EnvironmentError_: the profile's rehearsal is not up; says how to start it.
    """
    if profile.rehearsal is None:
        return profile.slurm_conf
    from cluster import rehearsal  # a tenth of a second that other clusters need not pay

    return str(Path(rehearsal.find(profile.rehearsal).conf))
