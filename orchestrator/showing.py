"""What `show` prints: an upstream's fields resolved as in a sweep, a sample of it, and how that reads as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.errors import SweepFileError, UsageError
from sweeps.language.checks import check_axes, check_frames
from sweeps.language.overrides import Overrides, applied
from sweeps.language.plugins import Registries, Survey, Upstream
from sweeps.language.problems import in_order
from sweeps.language.read import Source
from sweeps.language.resolve import Resolver
from sweeps.language.spec import check

if TYPE_CHECKING:
    from workloads.samples import Sample

AXIS = "complexity"
BIN_PERCENT = 5
BAR = 40
"""Characters of the longest bar."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An upstream and what the command line says of it."""

    name: str
    bands: tuple[str, ...]
    """Values of its axis `complexity`; empty: the fields as they are."""
    protocol: str
    seed: int
    overrides: Overrides


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An upstream with one band."""

    label: str
    science: Any
    sample: Sample
    survey: Survey | None
    """None where nothing is chosen by a score."""

    @property
    def percents(self) -> list[float]:
        """Scores of the sequences' rules in percent of the band's scale."""
        return [100 * s / self.survey.unit for s in self.sample.scores_B] if self.survey else []


def find(registries: Registries, wanted: Wanted) -> Upstream:
    """Return the upstream.

    Raises:
        UsageError: it is unknown, makes nothing, or has no bands.
    """
    upstream = registries.upstreams.find(wanted.name)
    if not upstream.trains or not upstream.implementation:
        raise UsageError(f"the upstream {wanted.name} makes no sequences; choose another")
    if upstream.norms_of is not None or upstream.vocabulary is None:
        raise UsageError(f"the upstream {wanted.name} makes no sequences of its own: they are another upstream's, or "
                         "a corpus's that a sweep makes; show the upstreams that it is made of")
    if wanted.bands and AXIS not in upstream.axes:
        near = upstream.inherits or wanted.name
        raise UsageError(f"--complexity: the upstream {wanted.name} has no axis {AXIS}; set its fields, for instance "
                         f"--set {near}.FIELD=VALUE")
    return upstream


def sciences(registries: Registries, wanted: Wanted) -> tuple[list[tuple[str, Any]], int]:
    """Return (label, science) of every band, and the scale's sequence length: resolved as a sweep file's are.

    Raises:
        SweepFileError: with every problem; the place is the flag.
    """
    upstream = find(registries, wanted)
    axes: dict[str, Any] = {"upstream": [wanted.name], "domain": [next(iter(registries.domains))],
                            "seed": [wanted.seed]}
    flags = {("protocol",): f"--protocol {wanted.protocol}", ("axes", AXIS): f"--complexity {','.join(wanted.bands)}",
             ("axes", "seed"): f"--seed {wanted.seed}"}
    values = {"schema_version": 1, "name": "show", "protocol": wanted.protocol, "baseline": {"upstream": wanted.name},
              "axes": axes | ({AXIS: list(wanted.bands)} if wanted.bands else {})}
    source, problems = applied(Source(name="the command line", values=values, flags=flags), wanted.overrides)
    if problems:
        raise SweepFileError(in_order(problems))
    resolver = Resolver(check(source), source, registries)
    check_axes(resolver)
    bands = resolver.sweep.axes.get(AXIS, ()) if AXIS in upstream.axes else ()
    field = upstream.axes.get(AXIS, "")
    found = [(str(band), resolver.plugin(wanted.name, upstream, {field: band}, {field: AXIS})) for band in bands] \
        or [("", resolver.plugin(wanted.name, upstream, {}))]
    core = resolver.core({})
    resolver.raise_problems()
    for _, science in found:
        check_frames(resolver, upstream, science, core)
    resolver.raise_problems()
    return [(_label(wanted.name, upstream, band, science), science) for band, science in found], \
        core["model"].sequence_length


def _label(name: str, upstream: Upstream, band: str, science: Any) -> str:
    survey = f" {upstream.survey(science).band}" if upstream.survey else f" {band}" if band else ""
    note = upstream.describe(science) if upstream.describe else ""
    return f"{name}{survey}" + (f" ({note})" if note else "")


def show(registries: Registries, wanted: Wanted, count: int) -> list[Shown]:
    """Return the first `count` sequences of every band.

    Raises:
        UsageError: a field is wrong, or no rules can be found.
    """
    from workloads.samples import sample

    upstream = find(registries, wanted)
    found, length = sciences(registries, wanted)
    return [Shown(label=label, science=science, survey=upstream.survey(science) if upstream.survey else None,
                  sample=sample(registries, upstream, science, seed=wanted.seed, sequence_length=length, count=count))
            for label, science in found]


def counts(percents: Sequence[float]) -> list[int]:
    """Return how many scores lie in each bin of `BIN_PERCENT`; 100 % and more fall into the last."""
    found = [0] * (100 // BIN_PERCENT)
    for percent in percents:
        found[min(int(percent // BIN_PERCENT), len(found) - 1)] += 1
    return found


def bars(columns: Sequence[tuple[str, Sequence[int]]], low: float, high: float) -> list[str]:
    """Return a histogram as text: a line per bin, a column of bars per name, `|` beside the bins that a band meets."""
    meets = [low < (k + 1) * BIN_PERCENT and k * BIN_PERCENT < high for k in range(100 // BIN_PERCENT)]
    used = [k for k, inside in enumerate(meets) if inside or any(values[k] for _, values in columns)]
    width = BAR // len(columns)
    lines = ["  score %   " + "".join(f"{name:<{width + 2}}" for name, _ in columns).rstrip()]
    for k in range(min(used, default=0), max(used, default=-1) + 1):
        parts = "".join(f"{_bar(values, k, width):<{width + 2}}" for _, values in columns)
        lines.append(f"  {k * BIN_PERCENT:>3}-{(k + 1) * BIN_PERCENT:<3} {'|' if meets[k] else ' '} {parts}".rstrip())
    return lines


def _bar(values: Sequence[int], k: int, width: int) -> str:
    longest = max(max(values), 1)
    room = width - len(str(longest)) - 1
    drawn = "#" * round(room * values[k] / longest)
    return f"{drawn or ('.' if values[k] else '')} {values[k] or ''}".strip()


def share(value: float, interval: tuple[float, float]) -> str:
    """Return `6.7 % (4.2 to 10.4)`."""
    return f"{100 * value:.3g} % ({100 * interval[0]:.3g} to {100 * interval[1]:.3g})"
