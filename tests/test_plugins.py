"""Every plug-in file meets its contract, and the defaults of all science fields are recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from sweeps.language.mixture import MixtureScience
from sweeps.language.plugins import Plugin, Upstream
from sweeps.language.presets import PROTOCOLS, SCALES
from sweeps.language.resolve import nested
from sweeps.language.science import SECTIONS
from workloads.registry import load_registries
from workloads.tasks._official import OfficialScience
from workloads.tasks.harness import HarnessScience

RECORD = Path(__file__).parent / "records" / "science_defaults.txt"
REGISTRIES = load_registries()
PLUGINS: dict[str, Plugin] = {
    f"{family}:{key}": plugin
    for family in ("upstreams", "domains", "tasks", "stages")
    for key, plugin in getattr(REGISTRIES, family).items()
}


def needed(plugin: Plugin) -> dict[str, Any]:
    """Return what its fields cannot be without: a published task says where it lies, lm-eval's which are meant."""
    return ({"paths": ["/rows.jsonl"]} if issubclass(plugin.science, OfficialScience)
            else {"tasks": ["arc_easy"]} if plugin.science is HarnessScience else {})


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_states_what_its_contract_asks(name: str) -> None:
    plugin = PLUGINS[name]
    assert plugin.revision >= 1
    if isinstance(plugin, Upstream) and not plugin.trains and plugin.body_tokens is None:
        return
    assert callable(plugin.load()), f"{name}: {plugin.implementation} is no callable"
    for presets in (plugin.protocols, plugin.scales):
        for preset, fields in presets.items():
            assert preset in (*PROTOCOLS, *SCALES), f"{name}: unknown preset {preset}"
            plugin.science.model_validate({**needed(plugin), **nested(fields)})


@pytest.mark.parametrize("name", [n for n, p in PLUGINS.items() if isinstance(p, Upstream) and p.trains])
def test_an_upstream_can_be_planned(name: str) -> None:
    plugin = PLUGINS[name]
    assert isinstance(plugin, Upstream)
    science = plugin.science()
    if plugin.vocabulary is not None:
        assert plugin.vocabulary(science) > 1
    else:  # it is that of its parts, or the tokenizer's
        assert isinstance(science, MixtureScience) or plugin.corpus in type(science).model_fields
    if plugin.norms_of is not None:
        key, trained = plugin.norms_of(science)
        assert type(trained) is REGISTRIES.upstreams[key].science
    if plugin.bank is not None:
        owner = REGISTRIES.upstreams[plugin.bank_owner]
        assert owner.bank_science is not None and isinstance(plugin.bank(science), owner.bank_science)
        assert plugin.rules_needed is not None and plugin.rules_needed(science, 10) > 0
    if plugin.frame_tokens is not None:
        assert plugin.frame_tokens(science) > 0
    if plugin.frames_implementation:
        assert callable(plugin.load_frames()), f"{name}: {plugin.frames_implementation} is no callable"
    if plugin.spell is not None:
        [(word, level)] = plugin.spell(science, [0])
        assert word and not word.isspace() and level >= 0


def defaults(model: type[BaseModel]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, info in model.model_fields.items():
        if info.is_required():
            found[key] = "(required)"
            continue
        value = info.get_default(call_default_factory=True, validated_data={})
        found[key] = defaults(type(value)) if isinstance(value, BaseModel) else value
    return found


def recorded() -> str:
    lines = [f"section {k}: {json.dumps(defaults(m), sort_keys=True, default=str)}" for k, m in SECTIONS.items()]
    lines += [f"{k} revision {p.revision}: {json.dumps(defaults(p.science), sort_keys=True, default=str)}"
                 for k, p in PLUGINS.items()]
    return "\n".join(lines) + "\n"


def test_a_changed_default_raises_the_revision() -> None:
    """A stage's identity holds only differences from the defaults: changing one must raise a revision."""
    text = recorded()
    assert RECORD.read_text(encoding="utf-8") == text, (
        "a default changed: raise the revision of the stage kinds or plug-ins whose results it changes, then write "
        f"the new text to {RECORD.name}: python -m tests.test_plugins")


def test_loading_the_registries_is_light() -> None:
    code = ("import sys\nfrom workloads.registry import load_registries\nload_registries()\n"
            "print([m for m in ('torch', 'numba', 'ray', 'tokenizers', 'numpy', 'pandas') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    RECORD.write_text(recorded(), encoding="utf-8")
