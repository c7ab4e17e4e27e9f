"""From dotted fields to validated science models: scale, then protocol, then the file, then the trial's own values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from sweeps.errors import Problem, SweepFileError, nearest
from sweeps.language.manifest import Departure, PlanChoice
from sweeps.language.plugins import ItemTask, Plugin, Registries, Science, Upstream
from sweeps.language.presets import SCALES, SEARCHED, domain_fields, preset_fields
from sweeps.language.problems import given as as_given
from sweeps.language.problems import in_order, shown, told
from sweeps.language.read import Source
from sweeps.language.science import AUTHORED, SECTIONS
from sweeps.language.spec import SweepFile, problem_of
from sweeps.language.units import Amount

Fields = dict[str, Any]
OF_DOMAIN = "pretrain"
"""The section whose fields a sweep may give for one domain alone: `code.pretrain.lr`."""
FINETUNE = "finetune"
"""The section whose presets depend on the task."""
SPLIT, SHARE = "documents.split", "documents.search_share"
"""The fields that keep the text of searches and comparisons apart."""
MAX_NUMBER = 10**12
"""No field of a model, a schedule or a file is larger; more overflows what is computed from it."""


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"a.b": 1}` as `{"a": {"b": 1}}`."""
    tree: dict[str, Any] = {}
    for dotted, value in fields.items():
        *parents, last = dotted.split(".")
        node = tree
        for name in parents:
            inner = node.get(name)
            node[name] = dict(inner) if isinstance(inner, Mapping) else {}
            node = node[name]
        node[last] = value
    return tree


class _Origin:
    """Where the fields of one model came from."""

    def __init__(self, names: tuple[str, ...], own: Mapping[str, Any], axes: Mapping[str, str], place: str) -> None:
        """`names` are the prefixes that apply, `own` a trial's values, `axes` their fields' axes where named apart.

        Where `place` is not empty, `own` came from this key of `fields:`, and from no axis.
        """
        self.names = names
        self.place = place
        self._own = own
        self._axes = axes

    def _key(self, rest: str) -> str | None:
        return next((k for k in self._own if rest == k or rest.startswith(k + ".")), None)

    def axis(self, rest: str) -> str | None:
        """Return the axis that gave the field `rest`, None where no axis did."""
        key = self._key(rest)
        return None if key is None or self.place else self._axes.get(key, f"{self.names[-1]}.{key}")

    def value(self, rest: str) -> Any:
        """Return the axis value that gave the field `rest`."""
        key = self._key(rest)
        return None if key is None else self._own[key]


def _alike(one: object, other: object) -> bool:
    """Return whether two ways of writing a value are one: 1 and 1.0, 32k and 32000, 5% and 5.0%."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    try:
        return Amount(one) == Amount(other)
    except ValueError:
        return one == other or str(one) == str(other)


def _endless(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_endless, value))
    return isinstance(value, float) and not math.isfinite(value)


def _misfit(model: type[BaseModel], rest: str, value: object) -> str:
    """Return why a value of a sound type does not belong in the field `rest`; empty where it may."""
    field: Any = model
    for name in rest.split("."):
        if not hasattr(field, "model_fields"):
            return "" if get_origin(field) is dict else f"{name} is below a field without parts; leave it out"
        info = field.model_fields.get(name)
        if info is None:
            return ""  # unknown: pydantic says so
        field = info.annotation
    if hasattr(field, "model_fields"):
        near = next(iter(value if isinstance(value, Mapping) else field.model_fields), "")
        return f"holds fields of its own; write each by its dotted name, for instance ...{rest}.{near}: VALUE"
    if isinstance(value, bool) and field in (int, float):
        return "must be a number; true and false are none"
    if isinstance(value, int | float) and field in (int, float) and abs(value) > MAX_NUMBER:
        return f"must be at most {MAX_NUMBER:,}"
    return ""


class Resolver:
    """Science models of one sweep. Collects every problem; models are shared between trials with equal fields."""

    def __init__(self, sweep: SweepFile, source: Source, registries: Registries,
                 problems: Sequence[Problem] = ()) -> None:
        """`registries` are passed in: this package imports no plug-in. `problems` are those of the draft."""
        self.sweep = sweep
        self.source = source
        self.registries = registries
        self.problems: dict[tuple[str, str], Problem] = {(p.key, p.given or p.message): p for p in problems}
        """One for a key and value: what comes first is nearest to the cause."""
        self.assumed = frozenset(p.key.partition(".")[0] for p in problems)
        """Top-level keys in whose place a default stands; what follows from them is not reported."""
        self._context = {"upstream_tokens": SCALES[sweep.scale].upstream_tokens}
        """What validators may ask for: tokens of `1x` of the axis token_budget."""
        self._cache: dict[str, Any] = {}
        self._malformed: set[str] = set()
        self._check_keys()

    def problem(self, key: str, given: object, message: str, *, path: Sequence[str] = ()) -> None:
        """Note a problem once; `path` is its place in the file where `key` does not say it."""
        self._note(key, "" if given is None else as_given(given), message, path)

    def problem_at(self, field: str, given: str, message: str) -> None:
        """Note a problem inside the value of a field: `field` is its dotted name and the keys below it."""
        whole = max((f for f in self.sweep.fields if field == f or field.startswith(f + ".")), key=len, default="")
        below = field.removeprefix(whole).strip(".")
        self._note(f"fields.{field}", given, message, ("fields", *filter(None, (whole, *below.split(".")))))

    def _note(self, key: str, given: str, message: str, path: Sequence[str] = ()) -> None:
        top, mark, rest = key.partition(".")
        place = path or ((top, rest) if mark and top in ("fields", "axes") else tuple(key.split(".")))
        self.problems.setdefault((key, given or message), told(
            where=self.source.where(*place), key=shown(key), given=given, message=message))

    def raise_problems(self) -> None:
        """Raise every problem found so far.

        Raises:
            SweepFileError: there are any.
        """
        if self.problems:
            raise SweepFileError(in_order(self.problems.values()))

    def family(self, prefix: str) -> tuple[str, Plugin] | None:
        """Return (family, plug-in) of a field's prefix, None where no plug-in has that key."""
        for family, registry in (
            ("upstream", self.registries.upstreams), ("domain", self.registries.domains),
            ("task", self.registries.tasks),
        ):
            if prefix in registry:
                return family, registry[prefix]
        return None

    def _check_keys(self) -> None:
        """See that every dotted key has a known first part, a finite value, and is given once."""
        known = [*AUTHORED, *self.registries.upstreams, *self.registries.domains, *self.registries.tasks]
        fields, axes = self.sweep.fields, [a for a in self.sweep.axes if "." in a]
        for key, where in [(f, "fields") for f in fields] + [(a, "axes") for a in axes]:
            prefix, _, rest = key.partition(".")
            if prefix not in known:
                self.problem(f"{where}.{key}", None, "unknown field; its first part must name a section or plug-in; "
                                                     f"{nearest(prefix, known)}")
            elif not rest or not all(rest.split(".")):
                self._malformed.add(key)
                self.problem(f"{where}.{key}", fields.get(key), "is no field; write its dotted name, for instance "
                                                                f"{prefix}.{self._some_field(prefix)}")
        for key in fields:
            prefix, field = self.split(key)
            if key in axes or ("." in prefix and f"{OF_DOMAIN}.{field}" in axes):
                self.problem(f"fields.{key}", fields[key], "is an axis of this sweep too; give it in one place")
        keys = sorted([*fields, *axes])
        for key, later in ((k, o) for k in keys for o in keys if o.startswith(k + ".")):
            self.problem(f"{'fields' if later in fields else 'axes'}.{later}", None, f"{key} is given as a whole too")
        self._check_finite()

    def _check_finite(self) -> None:
        for key, value in self.sweep.fields.items():
            if _endless(value):
                self.problem(f"fields.{key}", value, "must be a finite number")
        for axis, values in self.sweep.axes.items():
            for place, value in enumerate(values):
                if _endless(value):
                    self.problem(f"axes.{axis}", value, "must be a finite number", path=("axes", axis, str(place)))

    def _some_field(self, prefix: str) -> str:
        plugin = None if prefix in AUTHORED else self.family(prefix)
        model = plugin[1].science if plugin else SECTIONS[AUTHORED[prefix]]
        return next(iter(model.model_fields), "FIELD")

    def check_all(self) -> None:
        """Validate every field that is given, also of plug-ins that no trial uses, so that each slip is found."""
        first = {a: values[0] for a, values in self.sweep.axes.items() if "." in a and a not in self._malformed}
        self.core(first)
        for prefix in dict.fromkeys(f.partition(".")[0] for f in (*self.sweep.fields, *self.sweep.axes) if "." in f):
            plugin = None if prefix in AUTHORED else self.family(prefix)
            if plugin is not None:
                self.plugin(prefix, plugin[1],
                            {a.partition(".")[2]: v for a, v in first.items() if a.startswith(prefix + ".")})
        for prefix in dict.fromkeys(self.split(f)[0] for f in self.sweep.fields if f not in self._malformed):
            if prefix.endswith(f".{OF_DOMAIN}"):
                self.pretrain(prefix.partition(".")[0], first)

    def preset(self, prefix: str) -> Fields:
        """Return what scale and protocol set below a prefix, without the prefix.

        Of one domain's pre-training (`code.pretrain`): what they set for it alone and the file does not for all.
        """
        domain, of_domain, _ = prefix.partition(f".{OF_DOMAIN}")
        if of_domain:
            published = domain_fields(self.sweep.scale, self.sweep.protocol, domain)
            return {k: v for k, v in published.items() if k not in self._written(OF_DOMAIN)}
        plugin = None if prefix in AUTHORED else self.family(prefix)
        if plugin is not None:
            return {**plugin[1].scales.get(self.sweep.scale, {}), **plugin[1].protocols.get(self.sweep.protocol, {})}
        layers = {**preset_fields(self.sweep.scale, self.sweep.protocol),
                  **({} if self.sweep.search is None else {SPLIT: "search"})}
        return {k.partition(".")[2]: v for k, v in layers.items() if k.startswith(prefix + ".")}

    def split(self, key: str) -> tuple[str, str]:
        """Return a dotted key's prefix and the field below it: of `code.pretrain.lr`, `code.pretrain` and `lr`."""
        prefix, _, rest = key.partition(".")
        section, _, field = rest.partition(".")
        own = field and section == OF_DOMAIN and prefix in self.registries.domains
        return (f"{prefix}.{section}", field) if own else (prefix, rest)

    def _written(self, prefix: str) -> Fields:
        """Return what the file gives below a prefix, without the prefix."""
        sound = ((self.split(k), v) for k, v in self.sweep.fields.items() if k not in self._malformed)
        return {field: value for (below, field), value in sound if below == prefix}

    def _model(self, model: type[Science], prefix: str, own: Mapping[str, Any], *, parents: Iterable[str] = (),
               axes: Mapping[str, str] | None = None, place: str = "") -> Any:
        """Validate a model from presets and fields of `parents` and `prefix`, then `own` (see `_Origin`)."""
        fields: Fields = {}
        for name in (*parents, prefix):
            fields |= self.preset(name)
            fields |= self._written(name)
        fields |= own
        key = f"{model.__module__}.{model.__qualname__}:{prefix}:{sorted(fields.items(), key=str)}"
        if key not in self._cache:
            self._cache[key] = self._validate(model, _Origin((*parents, prefix), own, axes or {}, place), fields)
        return self._cache[key]

    def _validate(self, model: type[Science], origin: _Origin, fields: Fields) -> Any:
        before = len(self.problems)
        for rest, value in fields.items():
            reason = _misfit(model, rest, value)
            if reason:
                self._misfit_at(origin, rest, as_given(value), reason)
        if len(self.problems) > before:
            return None
        try:
            return model.model_validate(nested(fields), context=self._context)
        except ValidationError as error:
            places = [e["loc"] for e in error.errors()]
            for e in error.errors():
                if e["type"] == "too_short" and any(p[:len(e["loc"])] == e["loc"] != p for p in places):
                    continue  # it is short because of the values that were refused
                found = problem_of(self.source, e, model)
                self._misfit_at(origin, ".".join(map(str, e["loc"])), found.given, found.message)
            return None

    def _misfit_at(self, origin: _Origin, rest: str, given: str, message: str) -> None:
        """Note a problem of the field `rest` of a model at the axis or field that gave it."""
        axis = origin.axis(rest)
        if axis is not None:
            places = [str(i) for i, v in enumerate(self.sweep.axes[axis]) if v is origin.value(rest)]
            self._note(f"axes.{axis}", given and as_given(origin.value(rest)), message, ("axes", axis, *places[:1]))
            return
        if origin.place and origin.value(rest) is not None:
            self.problem_at(f"{origin.place}.{rest}", given, message)
            return
        for name in reversed(origin.names):
            key = ".".join(filter(None, (name, rest)))
            whole = next((f for f in self.sweep.fields if key == f or key.startswith(f + ".")), None)
            parts = [f for f in self.sweep.fields if f.startswith(key + ".")]  # a reason that concerns several fields
            named = next((f for f in parts if re.search(rf"\b{re.escape(f.rpartition('.')[2])}\b", message)), None)
            written = whole or named or next(iter(parts), None)
            if whole not in (None, key) and isinstance(self.sweep.fields[whole], Mapping):
                self.problem_at(key, given, message)
                return
            if written is not None:
                given = given if written == whole else as_given(self.sweep.fields[written])
                self._note(f"fields.{written}", given, message)
                return
        self._note(f"fields.{'.'.join(filter(None, (origin.names[-1], rest)))}", "" if "{" in given else given, message)

    def core(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return section -> model of every section that no plug-in owns; `own` are the trial's dotted values."""
        return {
            AUTHORED[prefix]: self._model(
                SECTIONS[AUTHORED[prefix]], prefix,
                {k.partition(".")[2]: v for k, v in own.items() if k.startswith(prefix + ".")},
            )
            for prefix in AUTHORED
        }

    def pretrain(self, domain: str, own: Mapping[str, Any]) -> Any:
        """Return the fields of pre-training on a domain: those of all domains, then the domain's own."""
        prefix = f"{domain}.{OF_DOMAIN}"
        values = {k.partition(".")[2]: v for k, v in own.items() if k.startswith(OF_DOMAIN + ".")}
        if not self._written(prefix) and not self.preset(prefix):
            return self._model(SECTIONS[OF_DOMAIN], OF_DOMAIN, values)
        axes = {field: f"{OF_DOMAIN}.{field}" for field in values}
        return self._model(SECTIONS[OF_DOMAIN], prefix, values, parents=[OF_DOMAIN], axes=axes)

    def recipe(self, task: ItemTask, own: Mapping[str, Any]) -> Any:
        """Return the fields of a task's fine-tuning: its recipe at this scale and protocol, then what the file gives.

        `own` are the trial's values.
        """
        published = {**task.recipes.get(self.sweep.scale, {}), **task.recipes.get(self.sweep.protocol, {})}
        below = {k: v for k, v in published.items() if k not in self._written(FINETUNE)}
        return self._model(SECTIONS[FINETUNE], FINETUNE, {**below, **own}, place=FINETUNE)

    def plugin(self, key: str, plugin: Plugin, own: Mapping[str, Any], axes: Mapping[str, str] | None = None,
               place: str = "") -> Any:
        """Return the science of a plug-in; `own` are its fields without the prefix, `axes` which axis gave each.

        Where `place` is not empty, this key of `fields:` gave them, and no axis.
        """
        parents = [plugin.inherits] if isinstance(plugin, Upstream) and plugin.inherits else []
        return self._model(plugin.science, key, own, parents=parents, axes=axes, place=place)

    def departures(self, choices: Sequence[PlanChoice] = ()) -> tuple[Departure, ...]:
        """Return every field that is not what scale and protocol say, and what `fair` still owes.

        Args:
            choices: what a search chose for each cell.
        """
        found = []
        owed = SEARCHED if self.sweep.protocol == "fair" else ()
        for key, value in self.sweep.fields.items():
            found += [Departure(field=field, given=value, preset=preset, source="sweep file")
                      for field, preset in self._presets(key).items()
                      if field not in owed and not _alike(preset, value)]
        for axis, values in self.sweep.axes.items():
            if "." in axis:
                prefix, _, rest = axis.partition(".")
                preset = self.preset(prefix).get(rest, self._default(prefix, rest))
                found.append(Departure(field=axis, given=list(values), preset=preset, source="axis"))
        for key in SEARCHED:
            chosen = {choice.cell: choice.values[key] for choice in choices if key in choice.values}
            prefix, _, rest = key.partition(".")
            preset = self.preset(prefix).get(rest, self._default(prefix, rest))
            if chosen:
                found.append(Departure(field=key, given=chosen, preset=preset,
                                       source=f"searched by {self.sweep.searched}"))
            elif key in owed and key not in self.sweep.axes:  # also where the file writes a value, be it the preset's
                found.append(Departure(field=key, given=self.sweep.fields.get(key, preset),
                                       preset="searched per arm on held-out runs", source="not yet searched"))
        for share in {choice.search_share for choice in choices} - {None}:
            if SHARE not in self.sweep.fields:
                found.append(Departure(field=SHARE, given=share, preset=None,
                                       source=f"searched by {self.sweep.searched}"))
        if self.sweep.protocol == "fair" and len(self.sweep.axes["seed"]) < 3:
            found.append(Departure(field="seed", given=len(self.sweep.axes["seed"]), preset="3 or more seeds",
                                   source="sweep file"))
        return tuple(found)

    def _presets(self, key: str) -> dict[str, Any]:
        """Return what scale and protocol say in the place of a field of the file, by the name of a departure.

        A field of pre-training takes the place of each domain's own preset too.
        """
        prefix, rest = self.split(key)
        domain, of_domain, _ = prefix.partition(f".{OF_DOMAIN}")
        section = OF_DOMAIN if of_domain else prefix
        domains = [domain] if of_domain else self.sweep.axes["domain"] if section == OF_DOMAIN else []
        own = {str(d): domain_fields(self.sweep.scale, self.sweep.protocol, str(d)) for d in domains}
        apart = {f"{d}.{OF_DOMAIN}.{rest}": fields[rest] for d, fields in own.items() if rest in fields}
        found = {key: self.preset(section).get(rest, self._default(section, rest)), **apart}
        return {field: preset for field, preset in found.items() if field == key or field not in self.sweep.fields}

    def _default(self, prefix: str, rest: str) -> Any:
        plugin = None if prefix in AUTHORED else self.family(prefix)
        model: Any = plugin[1].science if plugin else SECTIONS[AUTHORED[prefix]]
        *parents, last = rest.split(".")
        for name in parents:
            model = model.model_fields[name].annotation
            if not hasattr(model, "model_fields"):
                return None  # inside a mapping, such as a mixture's parts
        info = model.model_fields[last]
        if info.is_required():
            return None
        found = info.get_default(call_default_factory=True, validated_data={})
        return to_jsonable_python(found)  # as a file would write it
