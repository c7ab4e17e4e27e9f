"""Downstream tasks whose items lie on the Hub are brought beforehand, as domains are."""

from __future__ import annotations

from pathlib import Path

from orchestrator.plan import make_plan
from orchestrator.remotes import sources
from sweeps.language.spec import Overrides

SMOKE = Path(__file__).parent.parent.parent / "sweeps" / "smoke.yaml"


def keys(tmp_path: Path, *sets: str) -> list[str]:
    return [source.key for source in sources(make_plan(SMOKE, Overrides(sets=sets), tmp_path))]


def test_a_task_with_a_revision_is_brought_and_one_with_paths_is_here(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text("{}\n", encoding="utf-8")
    asked = "downstream.tasks=[arithmetic,gsm8k]"
    assert keys(tmp_path, asked, f"gsm8k.revision={'a' * 40}") == ["gsm8k"]
    assert keys(tmp_path, asked, f"gsm8k.paths=['{file}']") == []
