"""Near duplicates of whole documents: planted ones are found, others are kept, and it is recorded."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.language.science import TextScience
from sweeps.language.stage import section
from sweeps.store import files
from tests.workloads.data.conftest import folder_domain, paragraph
from tests.workloads.data.contexts import make_texts
from workloads.contract import Document
from workloads.data import make_text
from workloads.data.near_duplicates import NearDuplicates, shingles, sketch_of


def changed(text: str, rng: random.Random, every: int = 15) -> str:
    """A text with every 15th word another: most of its 13-grams are new, half of its shingles are not."""
    words = text.split(" ")
    for at in range(rng.randrange(every), len(words), every):
        words[at] = f"other{rng.randrange(10**6)}"
    return " ".join(words)


def document(path: str, text: str) -> Document:
    return Document(source="s", path=path, text=text)


def fresh(near: NearDuplicates, documents: list[Document]) -> list[Document]:
    return [each for each in documents if near.fresh(sketch_of(each.text))]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty documents; ten are there again with words changed, three word for word."""
    folder, rng = tmp_path_factory.mktemp("planted") / "notes", random.Random(0)
    folder.mkdir()
    for number in range(40):
        text = paragraph(rng, 300)
        (folder / f"{number}.txt").write_text(f"first {text}", encoding="utf-8")
        if number < 10:
            (folder / f"{number}-near.txt").write_text(f"second {changed(text, rng)}", encoding="utf-8")
        if 10 <= number < 13:
            (folder / f"{number}-same.txt").write_text(f"first {text}", encoding="utf-8")
    return folder


def numbers(folder: Path, part: str) -> list[int]:
    """Which of the forty texts a part holds, a copy counting as its original."""
    found = [json.loads(line)["path"] for line in (folder / part).read_text(encoding="utf-8").splitlines()]
    return [int(path.removesuffix(".txt").partition("-")[0]) for path in found]


def test_planted_copies_are_left_out_within_and_across_the_parts(planted: Path, tmp_path: Path) -> None:
    plain, _ = make_texts(tmp_path / "a", "notes", folder_domain(planted), validation_share="30%")
    folder, scores = make_texts(tmp_path / "b", "notes", folder_domain(planted), validation_share="30%",
                                near_duplicates="40%")
    both = numbers(plain, make_text.TRAIN) + numbers(plain, make_text.VALIDATION)
    assert sorted(both) != list(range(40)) and set(both) == set(range(40)), "by paragraphs alone changed copies stay"
    assert sorted(numbers(folder, make_text.TRAIN) + numbers(folder, make_text.VALIDATION)) == list(range(40))
    assert scores["near_duplicates"] == files.read_json(folder / make_text.SOURCES)["near_duplicates"] == 13


def test_off_by_default_and_then_nothing_is_another(planted: Path, tmp_path: Path) -> None:
    assert section(TextScience()).changed == {}
    assert section(TextScience(near_duplicates="80%")).changed == {"near_duplicates": "80%"}
    folder, scores = make_texts(tmp_path, "notes", folder_domain(planted))
    assert "near_duplicates" not in scores
    assert "near_duplicates" not in files.read_json(folder / make_text.SOURCES)


@given(st.lists(st.text(max_size=120), max_size=12))
def test_what_is_left_is_a_part_without_copies_and_stays_itself(texts: list[str]) -> None:
    documents = [document(str(n), text) for n, text in enumerate(texts)]
    near = NearDuplicates(0.8)
    kept = fresh(near, documents)
    assert near.found == len(documents) - len(kept)
    assert [d for d in documents if d in kept] == kept
    assert len({tuple(shingles(d.text)) for d in kept}) == len(kept), "the same shingles twice"
    assert fresh(NearDuplicates(0.8), kept) == kept


@pytest.mark.parametrize("similarity", [0.5, 0.8, 1.0])
def test_similar_texts_go_and_others_stay_by_the_limit(similarity: float) -> None:
    """500 words of which one in 4, 15 or 60 is another: Jaccard similarity about 0, 0.5 and 0.85."""
    rng = random.Random(1)
    text = paragraph(rng, 500)
    for every, expected in ((4, 0.0), (15, 0.5), (60, 0.85), (10**9, 1.0)):
        other = changed(text, rng, every) if every < 10**9 else text
        a, b = set(shingles(text)), set(shingles(other))
        exact = len(a & b) / len(a | b)
        assert abs(exact - expected) < 0.07
        if abs(exact - similarity) > 0.14 or exact == 1.0:  # three standard deviations of the estimate
            near = NearDuplicates(similarity)
            assert len(fresh(near, [document("a", text), document("b", other)])) == 1 + (exact < similarity)
