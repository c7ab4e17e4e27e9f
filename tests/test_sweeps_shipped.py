"""Every shipped sweep plans at every scale, and the published schema is the schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.plan import make_plan
from sweeps.language.presets import SCALES
from sweeps.language.spec import Overrides, schema_text

SWEEPS = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_a_shipped_sweep_plans_at_every_scale(path: Path, scale: str, tmp_path: Path) -> None:
    planned = make_plan(path, Overrides(scale=scale), tmp_path)
    assert planned.trials and len(planned.file.stages) == len(planned.graph.nodes)
    assert all(t.baseline for t in planned.trials)


@pytest.mark.parametrize("protocol", ["fair", "paper", "release"])
def test_a_shipped_sweep_plans_under_every_protocol(protocol: str, tmp_path: Path) -> None:
    path = next(p for p in SWEEPS if p.stem == "complexity_by_domain")
    planned = make_plan(path, Overrides(sets=(f"protocol={protocol}",)), tmp_path)
    ends = {s.tokens for t in planned.file.trials for s in t.path if s.role == "end"}
    assert len(ends) == (3 if protocol == "fair" else 1)


def test_the_schema_beside_the_sweeps_is_the_schema() -> None:
    shipped = (SWEEPS[0].parent / "schema.json").read_text(encoding="utf-8")
    assert shipped == schema_text(), "run: orchestrator schema > sweeps/schema.json"


def test_the_main_sweep_is_the_grid_that_it_says(tmp_path: Path) -> None:
    planned = make_plan(next(p for p in SWEEPS if p.stem == "complexity_by_domain"), Overrides(), tmp_path)
    assert len(planned.trials) == 7 * 3 * 3
    trunks = {s.fingerprint for t in planned.file.trials for s in t.path if s.role == "prepretrain"}
    # six trained arms, three seeds, a trunk point and a decay branch: shared by the three domains
    assert len(trunks) == 6 * 3 * 2
    assert planned.file.controls == ("nca_shuffled",)
