"""A tokenizer, a corpus and a tiny model, made once; contexts of the two stages over a temporary store."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from sweeps.language.plugins import ItemTask, Plugin
from sweeps.language.science import (
    EngineScience,
    MeasureScience,
    ModelScience,
    ScoringScience,
    SeedScience,
    TransferScience,
)
from sweeps.store import files
from sweeps.store.layout import Layout
from tests.workloads.data.conftest import folder_domain
from tests.workloads.data.contexts import make_shards, make_texts, make_tokens
from tests.workloads.training.fakes import FakeContext
from workloads.contract import Item
from workloads.data.make_tokenizer import TOKENIZER, load_tokenizer
from workloads.downstream.items import ITEMS, posed, write
from workloads.tasks._arithmetic import make
from workloads.tasks._drawn import Draw
from workloads.tasks.arithmetic import ArithmeticScience
from workloads.training.model import build_model
from workloads.training.transfer import write_weights

MODEL = ModelScience(layers=2, width=16, mlp=32, heads=2, sequence_length=128)
PLUGIN = ItemTask(science=ArithmeticScience, revision=1, implementation="workloads.tasks._arithmetic:items")


@dataclass(frozen=True)
class Made:
    """Artifact folders."""

    text: Path
    tokenizer: Path
    corpus: Path

    def load(self) -> Tokenizer:
        return load_tokenizer(self.tokenizer / TOKENIZER)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Stages text, tokenizer and corpus over word problems."""
    root = tmp_path_factory.mktemp("downstream")
    folder, draw, rng = root / "notes", Draw("text"), random.Random(0)
    folder.mkdir()
    for number in range(30):
        lines = [f"{(q := make(draw, 1 + n % 3)).prompt}{q.answer} {rng.randrange(10**9)}" for n in range(20)]
        (folder / f"{number:02d}.txt").write_text("\n\n".join(lines), encoding="utf-8")
    text, _ = make_texts(root, "notes", folder_domain(folder), validation_share="20%", overlap_limit="100%")
    tokenizer, _ = make_tokens(root, {"notes": text}, vocabulary=400)
    corpus, _ = make_shards(root, text, tokenizer)
    return Made(text=text, tokenizer=tokenizer, corpus=corpus)


@dataclass
class StageContext(FakeContext):
    """A context whose inputs are folders."""

    folders: Mapping[str, Path] = field(default_factory=dict)
    task: ItemTask = PLUGIN

    def plugin(self, section: str) -> Plugin:
        return self.task

    def inputs(self, role: str) -> list[Path]:
        return [self.folders[role]] if role in self.folders else []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Layout]:
    yield Layout(tmp_path)
    while FakeContext.made:
        FakeContext.made.pop().attempt.close()


def weights(folder: Path, vocabulary: int, seed: int = 0, scale: float = 1.0) -> Path:
    """Write a model; `scale` multiplies its output embedding."""
    folder.mkdir(exist_ok=True)
    model = build_model(MODEL, vocabulary, seed=seed, purpose="pretrain", embedding_std=1.0)
    state = model.state_dict()
    state["lm_head.weight"] = state["lm_head.weight"] * scale
    write_weights(folder, state, "{}")
    return folder


def asked(folder: Path, items: list[Item]) -> Path:
    """Write what a stage `items` leaves."""
    folder.mkdir(exist_ok=True)
    (folder / ITEMS).unlink(missing_ok=True)
    write(folder / ITEMS, [posed("arithmetic", item) for item in items])
    return folder


def downstream(store: Layout, made: Made, items: Path, model: Path | None, **about: Any) -> StageContext:
    """A context of stage `downstream`, of the untrained twin where no model is given."""
    subject: Any = "untrained" if model is None else "pretrained"
    folders = {"items": items, "tokenizer": made.tokenizer}
    folders |= {} if model is None else {"model": model, "corpus": made.corpus}
    name, science = about.pop("of", ("arithmetic", ArithmeticScience()))
    return StageContext(
        "downstream", about.pop("fingerprint", "d" * 32), {
            "model": MODEL, "engine": EngineScience(), "seed": SeedScience(), "transfer": TransferScience(),
            "measure": MeasureScience(subject=subject), "scoring": about.pop("scoring", ScoringScience()),
            f"task.{name}": science,
        }, store, folders=folders, **about)


def spec_of(context: StageContext, *roles: str) -> None:
    """Let a context's spec list inputs with these roles."""
    path = context.attempt.stage.spec
    path.unlink()
    files.create(path, files.to_json({"inputs": [{"role": role} for role in roles]}))
