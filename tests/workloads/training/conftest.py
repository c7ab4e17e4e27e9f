"""A store, and the fake corpus in the place of the real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.store.layout import Layout
from tests.workloads.training.fakes import FakeContext, FakeCorpus
from workloads.training import evaluation, runs


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Layout]:
    yield Layout(tmp_path)
    while FakeContext.made:
        FakeContext.made.pop().attempt.close()


@pytest.fixture(autouse=True)
def corpora(monkeypatch: pytest.MonkeyPatch) -> list[FakeCorpus]:
    """The corpora that stages have opened."""
    opened: list[FakeCorpus] = []

    def open_reader(folder: Path, context: Any) -> FakeCorpus:
        opened.append(FakeCorpus(folder, seed=context.science["seed"].seed,
                                 sequence_length=context.science["model"].sequence_length))
        return opened[-1]

    monkeypatch.setattr(runs, "open_reader", open_reader)
    monkeypatch.setattr(evaluation, "open_reader", open_reader)
    return opened
