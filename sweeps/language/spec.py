"""The sweep file: its schema, the only one there is, and what is done with a file that does not meet it.

`load_draft` finds every problem and returns a usable rest of the file, so that the grid's problems join the schema's
in one answer; `load_sweep` refuses a file with any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from sweeps.errors import Problem, SweepFileError, nearest
from sweeps.language.claim import Claim
from sweeps.language.logs import Log
from sweeps.language.overrides import MAX_SEEDS, applied
from sweeps.language.overrides import Overrides as Overrides
from sweeps.language.overrides import apply as apply
from sweeps.language.policy import Policy
from sweeps.language.presets import PROTOCOLS, SCALES
from sweeps.language.problems import given, in_order, shown, told
from sweeps.language.read import Source, parse_all, read_text
from sweeps.language.science import SearchScience
from sweeps.language.stage import AUTO, Offload, Written
from sweeps.language.units import Amount, Duration, Fraction, Pack

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""Names of sweeps, clusters and arms: safe as a file name."""
PROFILE = ".yaml"
"""How the path of a cluster profile ends; what ends otherwise is a name."""
GRID_AXES = ("upstream", "token_budget", "domain", "seed")
"""Axes that every sweep may have; upstreams add their own, and any dotted science field can be one."""
REQUIRED_AXES = ("upstream", "domain", "seed")
MAX_SEED = 2**32 - 1
"""Seeds are spread by a prime before they reach generators of 64 bits."""


def _whole(value: Any) -> Any:
    if isinstance(value, bool | float):  # Python holds True and 1.0 for 1
        raise ValueError("is no whole number")
    return value


_MICRO_BATCH = {"anyOf": [{"type": "integer", "minimum": 1}, {"const": AUTO}, {"type": "null"}]}


def _micro_batch(value: Any) -> Any:
    if value in (None, AUTO) or (type(value) is int and value >= 1):
        return value
    raise ValueError("must be a whole number, 1 or above, or auto")


def _file_name(value: str) -> str:
    if not re.fullmatch(NAME, value):
        near = re.sub(r"[^A-Za-z0-9._-]+", "_", value).lstrip("._-")[:64]
        hint = f" Did you mean {near!r}?" if near else ""
        raise ValueError("a name has the pattern of a file name: 1 to 64 of the letters A-Z a-z, digits, `.`, `_` and "
                         f"`-`, the first a letter or digit.{hint}")
    return value


def _cluster(value: str) -> str:
    return value if value.endswith(PROFILE) and shown(value) == value else _file_name(value)


def _absolute(value: Amount) -> Amount:
    if not value.isdecimal():
        raise ValueError("write tokens of a run, such as 500k or 10M; a share means nothing here")
    return value


def _checked_axes(value: Any) -> Any:
    """Return the axes, or raise every problem of theirs at once, each at its own place."""
    if not isinstance(value, Mapping):
        return value  # pydantic says that it is no mapping
    errors = [_line_error("absent", (name,), None, f"the axis {name!r} is missing; a sweep has at least upstream, "
                                                   "domain and seed") for name in REQUIRED_AXES if name not in value]
    for name, values in value.items():
        errors += [_line_error("axis", (name, *place), found, reason)
                   for place, found, reason in _axis_problems(str(name), values)]
    if errors:
        raise ValidationError.from_exception_data("axes", errors)
    return value


def _line_error(kind: Literal["absent", "axis"], place: tuple[str | int, ...], found: Any, reason: str
                ) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(kind, "{reason}", {"reason": reason}), loc=place, input=found)


def _axis_problems(name: str, values: Any) -> Iterator[tuple[tuple[int, ...], Any, str]]:
    if not isinstance(values, list | tuple):
        near = "" if isinstance(values, Mapping) or values is None else f"; did you mean {name}: [{values}]?"
        yield (), values, f"an axis is a list of values, for instance {name}: [a, b]{near}"
    elif not values:
        yield (), list(values), f"the axis {name!r} is empty; give at least one value"
    elif name == "seed" and len(values) > MAX_SEEDS:
        yield (), f"{len(values):,} seeds", f"a sweep has at most {MAX_SEEDS:,} seeds"
    else:
        seen: dict[object, int] = {}
        for place, value in enumerate(values):
            key = value if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)
            if seen.setdefault(key, place) != place:
                yield (place,), value, f"the axis {name!r} names a value twice; give each once"
            elif value is None:
                yield (place,), value, "an empty value; remove it or write one"
            elif name == "seed" and (isinstance(value, bool) or not isinstance(value, int)
                                     or not 0 <= value <= MAX_SEED):
                yield (place,), value, f"a seed is a whole number from 0 to {MAX_SEED:,}"


class Baseline(Written):
    """What every arm is compared with, paired by domain and seed."""

    upstream: str = "none"
    """An upstream on the axis."""


class Run(Written):
    """How to run: never part of a stage's identity."""

    cluster: Annotated[str, Field(json_schema_extra={"pattern": rf"^{NAME}$|\.yaml$"}),
                       AfterValidator(_cluster)] = "local"
    """Cluster profile: a name, or the path of a .yaml file, relative to the sweep file."""
    checkpoint_every: Duration = Duration("2 min")
    """Longest time between checkpoints of a job."""
    checkpoint_share: Fraction = Fraction("5%")
    """Largest share of its time that a job stands still for checkpoints: where one takes long, they come less often."""
    checkpoint_async: Annotated[bool, Field(strict=True)] = True
    """Training goes on while a checkpoint is written, from a copy in host memory; false: it waits, without a copy."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 2
    """The newest so many checkpoints of a stage are kept, whatever attempts made them."""
    keep_at: tuple[Annotated[Amount, AfterValidator(_absolute)], ...] = ()
    """Tokens of a run at which a checkpoint is made and kept, whatever comes after it: `[10M, 100M]`."""
    pack: Pack = Pack("5 min")
    """Short stages share one job: up to about this much estimated time (`2 min`), or up to so many stages (`20`)."""
    hang_floor: Duration = Duration("10 min")
    """A stage without a step for ten of its median steps, and at least this long, is killed and tried again."""
    on_spike: Literal["report", "stop"] = "report"
    """Where the loss of a training jumps far above those before it (docs/concepts/speed.md): `report` it, or `stop` the
    stage, which `retry` takes up again from its last checkpoint."""
    slots: Annotated[int, Field(ge=1)] | None = None
    """Jobs at once (local); None: by cores and memory."""
    ranks: Annotated[int, Field(ge=1)] = 1
    """Processes of one training stage."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] | None = None
    """DeepSpeed ZeRO stage; None: the scale's."""
    micro_batch: Annotated[
        int | Literal["auto"] | None, PlainValidator(_micro_batch), WithJsonSchema(_MICRO_BATCH)] = None
    """Sequences per forward pass and rank; `auto`: found by a short search when a run begins. None: `auto` from scale
    10m up and wherever the cluster profile has GPUs, else a rank's whole share of the batch."""
    activation_checkpointing: Annotated[bool, Field(strict=True)] = False
    """Compute layers again in the backward pass instead of keeping what they computed: less memory, the same bits."""
    offload: Offload = "none"
    """What ZeRO keeps in the host's memory: `optimizer` (stages 1 to 3) or `optimizer+parameters` (stage 3)."""
    policy: Annotated[Policy, BeforeValidator(lambda value: {} if value is None else value)] = Policy()
    """What follows when a stage ends without a result."""
    max_gpu_hours: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] | None = None
    """What the sweep may use, all its runs together: wall hours times ranks (one GPU each; without GPUs a rank counts
    as one). None: no limit but the cluster profile's."""
    at_cap: Literal["drain", "stop"] = "drain"
    """At that limit: `drain` lets running jobs end, `stop` asks them to checkpoint and leave."""
    notify: Annotated[str, Field(min_length=1)] | None = None
    """Shell command, URL, or @FILE that holds one of them: gets a message when the sweep ends or pauses."""


class SweepFile(Written):
    """A question, a grid, and how to run it."""

    schema_version: Annotated[Literal[1], BeforeValidator(_whole)]
    """Version of this schema."""
    name: Annotated[str, Field(json_schema_extra={"pattern": f"^{NAME}$"}), AfterValidator(_file_name)]
    """Name of the sweep and of its folder in the store."""
    question: str = ""
    """What the sweep is to answer, in a sentence."""
    protocol: Literal["fair", "paper", "release"] = "fair"
    """Preset of science fields; every departure is reported."""
    scale: str = "tiny"
    """Preset of model size, budgets and batch: tiny, 1m, 10m, 60m, 160m, 400m, 1.6b."""
    baseline: Baseline = Baseline()
    """What every arm is compared with."""
    axes: Annotated[dict[str, tuple[Any, ...]], BeforeValidator(_checked_axes)]
    """Axis -> values, crossed. An axis that an upstream lacks collapses for it."""
    fields: dict[str, Any] = {}
    """Science fields by dotted name, for all trials."""
    claims: dict[str, Claim] = {}
    """Statements to be judged."""
    logs: dict[str, Log] = {}
    """Name -> losses from elsewhere. No stage reads them, and no statistics mix them with the sweep's."""
    gate: Literal["report", "require"] = "report"
    """Where an upstream was not learned, or that is not known: `report` marks its results, `require` does not go on to
    pre-training. Controls go on in any case. No part of a stage's identity."""
    search: Annotated[SearchScience | None, BeforeValidator(lambda value: {} if value is None else value)] = None
    """Makes the sweep a search of `pretrain.lr` and `transfer.embedding_init`, for a comparison's `searched`."""
    searched: Annotated[str, Field(json_schema_extra={"pattern": f"^{NAME}$"}), AfterValidator(_file_name)
                        ] | None = None
    """Name of the search, in the same store, that chose `pretrain.lr` and `transfer.embedding_init` of each arm."""
    run: Run = Run()
    """Execution only."""
    plugins: tuple[str, ...] = ()
    """Files or folders of your own plug-ins, relative to the sweep file."""

    @field_validator("fields", "claims", "logs", "run", mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        """A key under which everything is commented out is empty, not wrong."""
        return {} if value is None else value

    @field_validator("scale")
    @classmethod
    def _known_scale(cls, value: str) -> str:
        if value not in SCALES:
            raise ValueError(f"unknown scale; {nearest(value, SCALES)}")
        return value


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A sweep file with its problems, and what of it can be used."""

    sweep: SweepFile
    """Where a part is unusable, the default stands in its place."""
    source: Source
    problems: tuple[Problem, ...]


def load_sweep(path: Path, overrides: Overrides | None = None) -> tuple[SweepFile, Source]:
    """Read, override and check a sweep file.

    Raises:
        SweepFileError: with every problem of file and overrides.
    """
    draft = load_draft(path, overrides)
    if draft.problems:
        raise SweepFileError(draft.problems)
    return draft.sweep, draft.source


def load_draft(path: Path, overrides: Overrides | None = None) -> Draft:
    """Read, override and check a sweep file; go on past every problem that leaves something to check.

    Raises:
        SweepFileError: with every problem found, where no grid can be made from the rest.
    """
    source, problems = parse_all(read_text(path), str(path))
    source, more = applied(source, overrides or Overrides())
    problems += [*more, *_absent_plugins(source)]
    sweep, rest = None, None
    try:
        sweep, rest = SweepFile.model_validate(source.values), source.values
    except ValidationError as error:
        problems += [problem_of(source, e, SweepFile) for e in error.errors()]
        problems = in_order(problems)
        rest = _usable(source.values, [e["loc"] for e in error.errors()])
    if rest is None or any(p.key.startswith("plugins") for p in problems):
        raise SweepFileError(problems)
    return Draft(sweep=_with_profile(sweep or SweepFile.model_validate(rest), source, path), source=source,
                 problems=tuple(in_order(problems)))


def _with_profile(sweep: SweepFile, source: Source, path: Path) -> SweepFile:
    """Return the sweep with its profile's path absolute: the file's is relative to the file, a flag's to the shell."""
    named = sweep.run.cluster
    if not named.endswith(PROFILE):
        return sweep
    base = Path.cwd() if ("run", "cluster") in source.flags else path.parent.absolute()
    run = sweep.run.model_copy(update={"cluster": str(base / Path(named).expanduser())})
    return sweep.model_copy(update={"run": run})


def _absent_plugins(source: Source) -> Iterator[Problem]:
    """Yield the paths of plug-ins that lead nowhere; what is found there is for the registry to judge."""
    named = source.values.get("plugins")
    for place, text in enumerate(named if isinstance(named, list) else ()):
        path = Path(source.name).parent / str(text)
        try:
            path.resolve(strict=True)
            continue
        except FileNotFoundError:
            here = [p.name for p in path.parent.iterdir() if p.suffix == ".py"] if path.parent.is_dir() else []
            reason = f"does not exist; plug-ins there: {nearest(path.name, here)}"
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError, a NUL a ValueError
            reason = f"cannot be read: {getattr(error, 'strerror', None) or str(error).split(' from ')[0]}"
        yield told(where=source.where("plugins", str(place)), key=f"plugins.{place}", given=given(text),
                      message=reason)


def _usable(values: Mapping[str, Any], places: Sequence[tuple[int | str, ...]]) -> dict[str, Any] | None:
    """Return the values without those at `places`; None where there is nothing left to make a grid of."""
    rest = {**values, "schema_version": 1}
    stand_ins: dict[str, Any] = {"name": "unnamed"}
    for top, *below in places:
        key = str(top)
        if key == "axes":
            if not below or below[0] in ("upstream", "domain") or not isinstance(rest.get("axes"), dict):
                return None
            stand_in = {"seed": [0]} if below[0] == "seed" else {}
            rest["axes"] = {k: v for k, v in rest["axes"].items() if k != below[0]} | stand_in
        elif key in ("fields", "claims", "logs", "run") and below and isinstance(rest.get(key), dict):
            rest[key] = {k: v for k, v in rest[key].items() if k != below[0]}
        elif key != "schema_version":
            rest.pop(key, None)
            rest |= {k: v for k, v in stand_ins.items() if k == key}
    return rest


def check(source: Source) -> SweepFile:
    """Validate a parsed file against the schema.

    Raises:
        SweepFileError: with every problem found.
    """
    try:
        return SweepFile.model_validate(source.values)
    except ValidationError as error:
        raise SweepFileError(in_order(problem_of(source, e, SweepFile) for e in error.errors())) from error


def problem_of(source: Source, error: ErrorDetails, model: Any) -> Problem:
    """Return a pydantic error as a problem with file, line, value, what is allowed and the nearest to it."""
    path = tuple(str(p) for p in error["loc"])
    value = "" if error["type"] in ("missing", "absent", "extra_forbidden") else given(error.get("input"))
    return told(where=source.where(*path), key=shown(".".join(path)), given=value, message=_message(error, model))


_PLAIN_WORDS = (
    (("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "must be a whole number"),
    (("float_type", "float_parsing"), "must be a number"),
    (("bool_type", "bool_parsing"), "must be true or false"),
    (("string_type",), "must be text, in quotes where it looks like a number"),
    (("dict_type", "model_type", "model_attributes_type", "mapping_type"), "must be a mapping of keys to values"),
    (("tuple_type", "list_type"), "must be a list, for instance [a, b]"),
    (("missing",), "this key is missing"),
)
"""Types of pydantic errors -> what a person is told."""


def _message(error: ErrorDetails, model: Any) -> str:
    kind, path = error["type"], [str(p) for p in error["loc"]]
    known = allowed_keys(model, path[:-1])
    if kind == "extra_forbidden":
        return f"unknown key; {nearest(path[-1], known)}"
    if path == ["schema_version"]:
        return _version_message(error)
    if kind == "literal_error":
        literals = re.findall("'([^']*)'", error["ctx"]["expected"])
        return f"unknown value; {nearest(str(error['input']), literals)}"
    words = next((text for kinds, text in _PLAIN_WORDS if kind in kinds), None)
    return words or re.sub(r"^Value error, |^Input ", "", error["msg"]).replace("should be", "must be")


def _version_message(error: ErrorDetails) -> str:
    value = error.get("input")
    if error["type"] == "missing":
        return "this key is missing; write schema_version: 1"
    if isinstance(value, int) and not isinstance(value, bool) and value > 1:
        return "known: 1. This file was written for a newer release; install that, or write schema_version: 1"
    return "known: 1. Did you mean 1?"


def allowed_keys(model: Any, path: Sequence[str]) -> list[str]:
    """Return the field names of the model found at `path` below `model`."""
    for name in path:
        fields = getattr(model, "model_fields", {})
        if name in fields:
            annotation = fields[name].annotation
            model = next((a for a in (annotation, *getattr(annotation, "__args__", ())) if hasattr(a, "model_fields")),
                         annotation)
    return list(getattr(model, "model_fields", {}))


def schema_text() -> str:
    """Return the JSON schema of a sweep file."""
    import json

    schema = SweepFile.model_json_schema()
    schema["properties"]["scale"]["enum"] = list(SCALES)
    schema["properties"]["protocol"]["enum"] = list(PROTOCOLS)
    return json.dumps(schema, indent=2) + "\n"
