"""A small domain in a folder, and its stages, made once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sweeps.language.plugins import Domain, Science
from tests.workloads.data.contexts import make_shards, make_texts, make_tokens
from workloads.data.folder import folder_identity, read_folder

WORDS = ("sum", "größe", "state", "rule", "cell", "日本語", "grid", "token", "order", "seed", "loss", "naïve", "🙂")


def paragraph(rng: random.Random, words: int = 40) -> str:
    """Random text that no other call repeats over 13 words."""
    return " ".join(f"{rng.choice(WORDS)}{rng.randrange(1000)}" for _ in range(words))


def fill(folder: Path, documents: int = 60, seed: int = 0) -> Path:
    """Write `documents` files of four paragraphs; every third repeats a licence and a slightly changed notice."""
    rng = random.Random(seed)
    licence, notice = paragraph(rng), paragraph(rng, 60)
    folder.mkdir(parents=True)
    for number in range(documents):
        parts = [paragraph(rng) for _ in range(4)]
        if number % 3 == 0:
            parts += [licence.replace(" ", "\n  "), f"{number} {notice} {number}", "short"]
        (folder / f"{number:03d}.txt").write_text("\r\n\r\n".join(parts), encoding="utf-8", newline="")
    return folder


def folder_domain(folder: Path) -> Domain:
    """The domain of a folder of .txt files, as a person would write it."""

    class FolderScience(Science):
        suffix: str = ".txt"

    class Local(Domain):
        def load(self) -> object:
            return lambda science: read_folder(folder, science.suffix)

    return Local(
        science=FolderScience, revision=1, identity=lambda science: folder_identity(folder, science.suffix)
    )


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """Artifacts and scores of stage `text`."""
    root = tmp_path_factory.mktemp("texts")
    return make_texts(root, "notes", folder_domain(fill(root / "notes")), validation_share="20%")


@pytest.fixture(scope="session")
def tokenizer(texts: tuple[Path, dict[str, float]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts of stage `tokenizer`."""
    return make_tokens(tmp_path_factory.mktemp("tokenizer"), {"notes": texts[0]}, vocabulary=400)[0]


@pytest.fixture(scope="session")
def corpus(
    texts: tuple[Path, dict[str, float]], tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, float]]:
    """Artifacts and scores of stage `corpus`, in shards of 1,000 tokens."""
    return make_shards(tmp_path_factory.mktemp("corpus"), texts[0], tokenizer, shard_tokens=1_000)
