"""The sweep file: its schema, and the overrides of the command line. Frozen models; the only schema there is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from sweeps.errors import Problem, SweepFileError, UsageError, nearest
from sweeps.language.presets import PROTOCOLS, SCALES
from sweeps.language.read import Source, parse, parse_value, read_text
from sweeps.language.stage import Frozen
from sweeps.language.units import Duration

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""Names of sweeps, clusters and arms: safe as a file name."""
GRID_AXES = ("upstream", "token_budget", "domain", "seed")
"""Axes that every sweep may have; upstreams add their own, and any dotted science field can be one."""


class Claim(Frozen):
    """A statement written before the first run, judged in the report."""

    domain: str
    """Domain of the comparison."""
    arm: str
    """An arm's label (`nca 45-60`), or `best_band`."""
    over: str = "baseline"
    """An arm's label, or `baseline`."""
    gain_nats: Annotated[str, Field(pattern=r"^\s*[<>]\s*-?[0-9.]+\s*$")]
    """Gain over `over` at the last end, nats per token, with a direction: `> 0`."""


class Baseline(Frozen):
    """What every arm is compared with, paired by domain and seed."""

    upstream: str = "none"
    """An upstream on the axis."""


class Run(Frozen):
    """How to run: never part of a stage's identity."""

    cluster: Annotated[str, Field(pattern=f"^{NAME}$")] = "local"
    """Executor profile."""
    checkpoint_every: Duration = Duration("2 min")
    """Longest time between checkpoints of a job."""
    pack: Duration = Duration("2 min")
    """Short stages are packed into one job up to about this much estimated time."""
    slots: Annotated[int, Field(ge=1)] | None = None
    """Jobs at once (local); None: by cores and memory."""
    ranks: Annotated[int, Field(ge=1)] = 1
    """Processes of one training stage."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] | None = None
    """DeepSpeed ZeRO stage; None: the scale's."""
    micro_batch: Annotated[int, Field(ge=1)] | None = None
    """Sequences per forward pass and rank; None: the whole share."""


class SweepFile(Frozen):
    """A question, a grid, and how to run it."""

    schema_version: Literal[1]
    """Version of this schema."""
    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    """Name of the sweep and of its folder in the store."""
    question: str = ""
    """What the sweep is to answer, in a sentence."""
    protocol: Literal["fair", "paper", "release"] = "fair"
    """Preset of science fields; every departure is reported."""
    scale: str = "tiny"
    """Preset of model size, budgets and batch: tiny, 1m, 10m, 60m, 160m, 400m, 1.6b."""
    baseline: Baseline = Baseline()
    """What every arm is compared with."""
    axes: dict[str, tuple[Any, ...]]
    """Axis -> values, crossed. An axis that an upstream lacks collapses for it."""
    fields: dict[str, Any] = {}
    """Science fields by dotted name, for all trials."""
    claims: dict[str, Claim] = {}
    """Statements to be judged."""
    run: Run = Run()
    """Execution only."""
    plugins: tuple[str, ...] = ()
    """Files or folders of your own plug-ins, relative to the sweep file."""

    @field_validator("scale")
    @classmethod
    def _known_scale(cls, value: str) -> str:
        if value not in SCALES:
            raise ValueError(f"unknown scale; {nearest(value, SCALES)}")
        return value

    @field_validator("axes")
    @classmethod
    def _axes(cls, value: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for needed in ("upstream", "domain", "seed"):
            if needed not in value:
                raise ValueError(f"the axis {needed!r} is missing; a sweep has at least upstream, domain and seed")
        for name, values in value.items():
            if not values:
                raise ValueError(f"the axis {name!r} is empty; give at least one value")
            if len({repr(v) for v in values}) != len(values):
                raise ValueError(f"the axis {name!r} names a value twice: {list(values)}")
        for seed in value["seed"]:
            if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
                raise ValueError(f"seed {seed!r}: a seed is a whole number, 0 or above")
        return value


class Overrides(Frozen):
    """What the command line changes; passes the same checks as the file, and is recorded."""

    sets: tuple[str, ...] = ()
    """`AXIS_OR_FIELD=VALUE`, the value read as YAML."""
    scale: str | None = None
    seeds: str | None = None
    """`N` (seeds 0..N-1) or a list `0,3,5`."""
    cluster: str | None = None

    def texts(self) -> tuple[str, ...]:
        """Return the overrides as recorded in the store."""
        named = [f"scale={self.scale}" if self.scale else "", f"seeds={self.seeds}" if self.seeds else ""]
        return tuple(t for t in (*named, *self.sets) if t)


def load_sweep(path: Path, overrides: Overrides | None = None) -> tuple[SweepFile, Source]:
    """Read, override and check a sweep file.

    Raises:
        SweepFileError: with every problem found.
    """
    source = apply(parse(read_text(path), str(path)), overrides or Overrides())
    return check(source), source


def check(source: Source) -> SweepFile:
    """Validate a parsed file against the schema.

    Raises:
        SweepFileError: with every problem found.
    """
    try:
        return SweepFile.model_validate(source.values)
    except ValidationError as error:
        problems = [problem_of(source, e, SweepFile) for e in error.errors()]
        raise SweepFileError(problems) from error


def problem_of(source: Source, error: ErrorDetails, model: Any, prefix: tuple[str, ...] = ()) -> Problem:
    """Return a pydantic error as a problem with file, line and the allowed keys."""
    path = (*prefix, *(str(p) for p in error["loc"]))
    message = re.sub(r"^Value error, ", "", error["msg"])
    if error["type"] == "extra_forbidden":
        message = f"unknown key; {nearest(path[-1], allowed_keys(model, [str(p) for p in error['loc'][:-1]]))}"
    given = "" if error["type"] in ("missing", "extra_forbidden") else repr(error.get("input"))[:80]
    return Problem(where=source.where(*path), key=".".join(path), given=given, message=message)


def allowed_keys(model: Any, path: Sequence[str]) -> list[str]:
    """Return the field names of the model found at `path` below `model`."""
    for name in path:
        fields = getattr(model, "model_fields", {})
        if name in fields:
            model = fields[name].annotation
    return list(getattr(model, "model_fields", {}))


def apply(source: Source, overrides: Overrides) -> Source:
    """Return the source with the command line's values in place of the file's.

    Raises:
        UsageError: an override cannot be read.
    """
    values = {**source.values}
    axes = dict(values.get("axes") or {})
    fields = dict(values.get("fields") or {})
    lines = dict(source.lines)
    for key, value in map(_assignment, overrides.sets):
        if key in axes or ("." not in key and isinstance(value, list)):
            axes[key] = value if isinstance(value, list) else [value]
        elif "." in key:
            fields[key] = value
        elif key in ("protocol", "scale", "question", "name"):
            values[key] = value
        else:
            raise UsageError(f"--set {key}: neither an axis of this sweep nor a dotted field; "
                             f"{nearest(key, [*axes, *fields])}")
    if overrides.scale:
        values["scale"] = overrides.scale
    if overrides.seeds:
        axes["seed"] = _seeds(overrides.seeds)
    if overrides.cluster:
        values["run"] = {**(values.get("run") or {}), "cluster": overrides.cluster}
    if axes:
        values["axes"] = axes
    if fields:
        values["fields"] = fields
    return Source(name=source.name, values=values, lines=lines)


def _assignment(text: str) -> tuple[str, Any]:
    key, mark, given = text.partition("=")
    if not mark or not key.strip() or not given.strip():
        raise UsageError(f"--set {text!r}: write --set AXIS_OR_FIELD=VALUE, for instance --set domain=[web]")
    return key.strip(), parse_value(given)


def _seeds(text: str) -> list[int]:
    if re.fullmatch(r"[0-9]+", text) and int(text) > 0:
        return list(range(int(text)))
    if re.fullmatch(r"\[?\s*[0-9]+(\s*,\s*[0-9]+)*\s*\]?", text) and "," in text:
        return [int(part) for part in text.strip("[] ").split(",")]
    raise UsageError(f"--seeds {text!r}: write a number of seeds (3) or a list of seeds (0,1,4)")


def schema_text() -> str:
    """Return the JSON schema of a sweep file."""
    import json

    schema = SweepFile.model_json_schema()
    schema["properties"]["scale"]["enum"] = list(SCALES)
    schema["properties"]["protocol"]["enum"] = list(PROTOCOLS)
    return json.dumps(schema, indent=2) + "\n"
