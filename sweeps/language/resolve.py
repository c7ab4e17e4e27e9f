"""From dotted fields to validated science models: scale, then protocol, then the file, then the trial's own values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from sweeps.errors import Problem, SweepFileError, nearest
from sweeps.language.manifest import Departure
from sweeps.language.plugins import Plugin, Registries, Science, Upstream
from sweeps.language.presets import NOT_SEARCHED, PROTOCOL_FIELDS, SCALES
from sweeps.language.read import Source
from sweeps.language.science import AUTHORED, SECTIONS
from sweeps.language.spec import SweepFile, problem_of

Fields = dict[str, Any]


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"a.b": 1}` as `{"a": {"b": 1}}`."""
    tree: dict[str, Any] = {}
    for dotted, value in fields.items():
        *parents, last = dotted.split(".")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = value
    return tree


class Resolver:
    """Science models of one sweep. Collects every problem; models are shared between trials with equal fields."""

    def __init__(self, sweep: SweepFile, source: Source, registries: Registries) -> None:
        """`registries` are passed in: this package imports no plug-in."""
        self.sweep = sweep
        self.source = source
        self.registries = registries
        self.problems: dict[tuple[str, str], Problem] = {}
        self._cache: dict[str, Any] = {}
        self._check_prefixes()

    def problem(self, key: str, given: object, message: str) -> None:
        """Note a problem once."""
        path = tuple(key.split(".", 1)) if key.startswith(("fields.", "axes.")) else (key,)
        self.problems.setdefault((key, message), Problem(
            where=self.source.where(*path), key=key, given="" if given is None else repr(given)[:80], message=message
        ))

    def raise_problems(self) -> None:
        """Raise every problem found so far.

        Raises:
            SweepFileError: there are any.
        """
        if self.problems:
            raise SweepFileError(list(self.problems.values()))

    def family(self, prefix: str) -> tuple[str, Plugin] | None:
        """Return (family, plug-in) of a field's prefix, None where no plug-in has that key."""
        for family, registry in (
            ("upstream", self.registries.upstreams), ("domain", self.registries.domains),
            ("task", self.registries.tasks),
        ):
            if prefix in registry:
                return family, registry[prefix]
        return None

    def _check_prefixes(self) -> None:
        dotted_axes = [a for a in self.sweep.axes if "." in a]
        known = [*AUTHORED, *self.registries.upstreams, *self.registries.domains, *self.registries.tasks]
        for key, where in [(f, "fields") for f in self.sweep.fields] + [(a, "axes") for a in dotted_axes]:
            prefix, _, rest = key.partition(".")
            if not rest or (prefix not in AUTHORED and self.family(prefix) is None):
                self.problem(f"{where}.{key}", None, f"unknown field; its first part must name a section or plug-in; "
                                                     f"{nearest(prefix, known)}")

    def preset(self, prefix: str) -> Fields:
        """Return what scale and protocol set below a prefix, without the prefix."""
        plugin = None if prefix in AUTHORED else self.family(prefix)
        if plugin is not None:
            return {**plugin[1].scales.get(self.sweep.scale, {}), **plugin[1].protocols.get(self.sweep.protocol, {})}
        layers = {**SCALES[self.sweep.scale].fields(), **PROTOCOL_FIELDS[self.sweep.protocol]}
        return {k.partition(".")[2]: v for k, v in layers.items() if k.startswith(prefix + ".")}

    def _model(self, model: type[Science], prefix: str, own: Mapping[str, Any], *, parents: Iterable[str] = ()) -> Any:
        """Validate a model from the presets and fields of `parents` and `prefix`, then `own`."""
        fields: Fields = {}
        for name in (*parents, prefix):
            fields |= self.preset(name)
            fields |= {k.partition(".")[2]: v for k, v in self.sweep.fields.items() if k.startswith(name + ".")}
        fields |= own
        key = f"{model.__module__}.{model.__qualname__}:{prefix}:{sorted(fields.items(), key=str)}"
        if key not in self._cache:
            self._cache[key] = self._validate(model, prefix, fields)
        return self._cache[key]

    def _validate(self, model: type[Science], prefix: str, fields: Fields) -> Any:
        try:
            return model.model_validate(nested(fields))
        except ValidationError as error:
            for e in error.errors():
                found = problem_of(self.source, e, model)
                key = f"{prefix}.{found.key}"
                written = next((f for f in self.sweep.fields if f == key or f.startswith(key + ".")), None)
                self.problem(f"fields.{written or key}", e.get("input") if found.given else None, found.message)
            return None

    def core(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return section -> model of every section that no plug-in owns; `own` are the trial's dotted values."""
        return {
            AUTHORED[prefix]: self._model(
                SECTIONS[AUTHORED[prefix]], prefix,
                {k.partition(".")[2]: v for k, v in own.items() if k.startswith(prefix + ".")},
            )
            for prefix in AUTHORED
        }

    def plugin(self, key: str, plugin: Plugin, own: Mapping[str, Any]) -> Any:
        """Return the science of a plug-in; `own` are its own fields without the prefix."""
        parents = [plugin.inherits] if isinstance(plugin, Upstream) and plugin.inherits else []
        return self._model(plugin.science, key, own, parents=parents)

    def departures(self) -> tuple[Departure, ...]:
        """Return every field that is not what scale and protocol say, and what `fair` still owes."""
        found = []
        for key, value in self.sweep.fields.items():
            prefix, _, rest = key.partition(".")
            preset = self.preset(prefix).get(rest, self._default(prefix, rest))
            if str(preset) != str(value):
                found.append(Departure(field=key, given=value, preset=preset, source="sweep file"))
        for axis, values in self.sweep.axes.items():
            if "." in axis:
                prefix, _, rest = axis.partition(".")
                preset = self.preset(prefix).get(rest, self._default(prefix, rest))
                found.append(Departure(field=axis, given=list(values), preset=preset, source="axis"))
        if self.sweep.protocol == "fair":
            for key in NOT_SEARCHED:
                if key not in self.sweep.fields and key not in self.sweep.axes:
                    prefix, _, rest = key.partition(".")
                    value = self.preset(prefix).get(rest, self._default(prefix, rest))
                    found.append(Departure(field=key, given=value, preset="searched per arm on held-out runs",
                                           source="not yet searched"))
            if len(self.sweep.axes["seed"]) < 3:
                found.append(Departure(field="seed", given=len(self.sweep.axes["seed"]), preset="3 or more seeds",
                                       source="sweep file"))
        return tuple(found)

    def _default(self, prefix: str, rest: str) -> Any:
        plugin = None if prefix in AUTHORED else self.family(prefix)
        model: Any = plugin[1].science if plugin else SECTIONS[AUTHORED[prefix]]
        *parents, last = rest.split(".")
        for name in parents:
            model = model.model_fields[name].annotation
        return model.model_fields[last].get_default(call_default_factory=True, validated_data={})
