"""A finished store, made once per session and copied for each test that may change it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.plan import Planned
from tests.orchestrator.plans import planned
from tests.orchestrator.verb_stores import run


@pytest.fixture(scope="session")
def finished_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the sweep `t`, complete; to be read only."""
    root = tmp_path_factory.mktemp("finished")
    run(planned(root))
    return root


@pytest.fixture
def finished_plan(finished_store: Path, tmp_path: Path) -> Planned:
    """The plan of a copy of that store, at `tmp_path / "store"`."""
    root = tmp_path / "store"
    shutil.copytree(finished_store, root)
    return planned(root)
