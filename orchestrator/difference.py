"""What makes a stage another one than the nearest of its kind in the store: field by field, and through its inputs.

Reads one spec.json per stage of the kind (5,000 take about half a second), and those of inputs that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sweeps.errors import RecordError
from sweeps.store.files import flattened, read_json
from sweeps.store.layout import Layout, StageFolder

DEPTH = 6
"""Inputs of inputs that are followed: the longest path (evaluate, pretrain, trunk, body, trunk, rules) has as many."""
COMPARED = 64
"""Equally near stages whose inputs are compared too."""
ABSENT = "(absent)"

Spec = Mapping[str, Any]
"""spec.json: kind, revisions, sections (plug-in and values), inputs."""
Find = Callable[[str, str], Spec | None]
"""(kind, fingerprint) -> its spec, where it is known."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One science field, revision or plug-in that differs."""

    field: str
    nearest: Any
    this: Any


@dataclass(frozen=True, kw_only=True)
class InputChange:
    """An input that is another stage."""

    role: str
    nearest: str
    """Kind and fingerprint, or `(absent)`."""
    this: str
    because: Difference | None
    """Why; None where one is absent or a spec is not known."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Everything that differs between a stage and the nearest one."""

    kind: str
    nearest: str
    """Fingerprint."""
    fields: tuple[Change, ...]
    inputs: tuple[InputChange, ...]

    @property
    def count(self) -> int:
        """Fields that differ, those of inputs included."""
        return len(self.fields) + sum(i.because.count if i.because else 1 for i in self.inputs)

    def raw(self) -> dict[str, Any]:
        """Return JSON fields."""
        return asdict(self)

    def lines(self, indent: str = "  ", shown: set[tuple[str, str]] | None = None) -> Iterator[str]:
        """Yield the difference as text, from the nearest stage's value to this one's; each pair of inputs once."""
        shown = set() if shown is None else shown
        for change in self.fields:
            yield f"{indent}{change.field}: {_short(change.nearest)} -> {_short(change.this)}"
        for each in self.inputs:
            pair = each.nearest, each.this
            names = f"{indent}input {each.role}: {_brief(each.nearest)} -> {_brief(each.this)}"
            if each.because is None or pair in shown:
                yield names + (" (as above)" if pair in shown else "")
                continue
            shown.add(pair)
            yield names + ", because"
            yield from each.because.lines(indent + "  ", shown)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _brief(name: str) -> str:
    kind, mark, fingerprint = name.partition("/")
    return f"{kind} {fingerprint[:8]}" if mark else name


def nearest(layout: Layout, this: Spec, find: Find) -> Difference | None:
    """Return how a stage differs from that of its kind with the fewest differing fields; None: the kind is new.

    Of several equally near ones that is taken whose inputs differ least, then one that is complete.
    """
    mine = _flat(this)
    best: list[tuple[int, Spec]] = []
    for path in (layout.stages / str(this["kind"])).glob("*/spec.json"):
        if path.parent.name == this["fingerprint"]:
            continue
        try:
            other = read_json(path)
            distance = _distance(mine, _flat(other))
        except (ValueError, KeyError, TypeError, FileNotFoundError, RecordError):  # damaged, newer or just deleted
            continue
        if not best or distance < best[0][0]:
            best = [(distance, other)]
        elif distance == best[0][0]:
            best.append((distance, other))
    if not best:
        return None

    compared = [difference(other, this, find) for _, other in best[:COMPARED]]
    return min(compared, key=lambda d: (d.count, not layout.stage(d.kind, d.nearest).result.exists(), d.nearest))


def difference(older: Spec, newer: Spec, find: Find, depth: int = DEPTH) -> Difference:
    """Return what differs between two stages of a kind, following differing inputs."""
    a, b = _fields(older), _fields(newer)
    fields = tuple(Change(field=k, nearest=a.get(k, ABSENT), this=b.get(k, ABSENT))
                   for k in sorted(a.keys() | b.keys()) if a.get(k, ABSENT) != b.get(k, ABSENT))
    left, right = _inputs(older), _inputs(newer)
    inputs = tuple(_input_change(role, left.get(role, ABSENT), right.get(role, ABSENT), find, depth)
                   for role in dict.fromkeys([*right, *left]) if left.get(role) != right.get(role))
    return Difference(kind=str(newer["kind"]), nearest=str(older["fingerprint"]), fields=fields, inputs=inputs)


def _input_change(role: str, older: str, newer: str, find: Find, depth: int) -> InputChange:
    because = None
    if depth and ABSENT not in (older, newer):
        specs = [find(*name.split("/")) for name in (older, newer)]
        if specs[0] is not None and specs[1] is not None and specs[0]["kind"] == specs[1]["kind"]:
            because = difference(specs[0], specs[1], find, depth - 1)
    return InputChange(role=role, nearest=older, this=newer, because=because)


def _distance(a: Mapping[str, Any], b: Mapping[str, Any]) -> int:
    return sum(a.get(k, ABSENT) != b.get(k, ABSENT) for k in a.keys() | b.keys())


def _flat(spec: Spec) -> dict[str, Any]:
    return _fields(spec) | {f"input {role}": name for role, name in _inputs(spec).items()}


def _fields(spec: Spec) -> dict[str, Any]:
    found: dict[str, Any] = {f"revision of {k}": v for k, v in spec["revisions"].items()}
    for name, section in spec["sections"].items():
        if section["plugin"]:
            found[f"{name} (plug-in)"] = section["plugin"]
        found |= flattened(name, section["values"])
    return found


def _inputs(spec: Spec) -> dict[str, str]:
    """Return role -> `kind/fingerprint`; roles that repeat (rule blocks) are numbered."""
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for needed in spec["inputs"]:
        role = str(needed["role"])
        counts[role] = counts.get(role, 0) + 1
        found[role if counts[role] == 1 else f"{role} {counts[role]}"] = f"{needed['kind']}/{needed['fingerprint']}"
    return found


def read_spec(stage: StageFolder) -> Spec | None:
    """Return the spec.json of a stage; None where it is missing or damaged."""
    try:
        return read_json(stage.spec)
    except (FileNotFoundError, ValueError, RecordError):
        return None
