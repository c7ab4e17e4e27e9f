"""Plans over the fake plug-ins, for tests of the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.plan import Planned, resolve
from sweeps.language.graph import Graph
from sweeps.language.manifest import PlanFile
from sweeps.language.read import Source
from sweeps.language.spec import Overrides, check
from sweeps.store.layout import Layout
from tests.sweeps.fakes import registries

AXES: dict[str, Any] = {
    "upstream": ["none", "nca"], "complexity": ["30-45", "60-75"], "domain": ["web"], "seed": [0, 1],
}


def planned(root: Path, *, name: str = "t", axes: dict[str, Any] | None = None, **values: Any) -> Planned:
    """Return a plan on the memory executor."""
    source = Source(name="t.yaml", values={
        "schema_version": 1, "name": name, "axes": axes or AXES, "run": {"cluster": "memory"}, **values})
    sweep = check(source)
    return resolve(Planned(
        sweep=sweep, text="name: t\n", source=source, overrides=Overrides(), plugins=(), registries=registries(),
        layout=Layout(root.resolve()), trials=(), graph=Graph(nodes={}, paths={}),
        file=PlanFile(name=name, question="", protocol=sweep.protocol, scale=sweep.scale, trials=(), stages=()),
    ))
