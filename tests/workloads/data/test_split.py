"""What streams through memory in small pieces is split as if all of it lay there at once."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.errors import UsageError
from sweeps.language.science import TextScience
from tests.workloads.data.plain_text import plain_split
from workloads.contract import Document, Stopped
from workloads.data import chunks as chunks_module
from workloads.data import copies, make_text, scratch
from workloads.data.chunks import chunks, prepare, written
from workloads.data.copies import Seen
from workloads.data.notes import Collected
from workloads.data.paragraphs import cut
from workloads.data.scratch import GramFile, Scratch, parts
from workloads.data.split import Shelf, Split, split


def shelf_of(folder: Path, documents: list[Document]) -> Shelf:
    """Documents as the stage collects them."""
    scratch = Scratch(folder=Path(tempfile.mkdtemp(dir=folder)), pause=lambda: None)
    collected = Collected(shelf=Shelf(scratch), near=None)
    for chunk in chunks(documents, 0):
        assert make_text.take(collected, prepare(chunk, near=False), 10**12) is None
    for file in (collected.shelf.documents, collected.shelf.fresh_grams, collected.shelf.all_grams):
        file.seal()
    return collected.shelf


def kept_texts(shelf: Shelf, found: Split) -> dict[str, dict[int, str]]:
    parts: dict[str, dict[int, str]] = {"train": {}, "validation": {}}
    everything = np.ones(len(found.held_out_D), np.bool_)
    for chosen in shelf.chosen(everything, found.kept_P, found.held_out_D):
        for document in written(chosen):
            fields = json.loads(document.line)
            parts["validation" if document.held_out else "train"][int(fields["path"])] = fields["text"]
    return parts


@st.composite
def corpora(draw: st.DrawFn) -> list[Document]:
    """Documents put together from a few sentences, so that they repeat one another in part and in whole."""
    sentences = draw(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=24), min_size=3, max_size=8))
    breaks = st.sampled_from(["\n\n", "\n \n", " ", "\n"])
    found = []
    for number in range(draw(st.integers(1, 10))):
        chosen = draw(st.lists(st.tuples(st.sampled_from(range(len(sentences))), breaks), max_size=6))
        text = "".join(" ".join(f"word{w}" for w in sentences[s]) + end for s, end in chosen)
        found.append(Document(source="s", path=str(number), text=text))
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(documents=corpora(), sizes=st.tuples(st.integers(1, 400), st.integers(1, 40), st.integers(1, 5)),
       science=st.builds(TextScience, validation_share=st.sampled_from(["10%", "30%", "50%"]),
                         overlap_limit=st.sampled_from(["0.01%", "2%", "40%"]),
                         split=st.sampled_from(["comparison", "search"]),
                         search_share=st.sampled_from([None, "20%", "50%"])))
def test_any_documents_in_pieces_of_any_size_are_split_as_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documents: list[Document], sizes: tuple[int, int, int],
    science: TextScience,
) -> None:
    for module, name, size in ((chunks_module, "CHUNK_CHARS", sizes[0]), (scratch, "CHUNK_BYTES", sizes[0]),
                               (scratch, "RUN_GRAMS", sizes[1]), (copies, "RECENT", sizes[2])):
        monkeypatch.setattr(module, name, size)
    expected = plain_split(documents, science)
    shelf = shelf_of(tmp_path, documents)
    if expected["empty"]:
        with pytest.raises(UsageError, match=f"{len(documents)} documents leave nothing to"):
            split(shelf, science)
        return
    found = split(shelf, science)
    assert {**kept_texts(shelf, found), "overlap": found.overlap, "overlap_before": found.overlap_before,
            "dropped": found.dropped, "empty": False} == expected


def read_by(folder: Path, documents: list[Document], **science: str) -> dict[int, str]:
    """Text of each document that is trained on or held out, by path; none where there is too little of it."""
    shelf = shelf_of(folder, documents)
    try:
        parts = kept_texts(shelf, split(shelf, TextScience(**science)))  # type: ignore[arg-type]
    except UsageError:
        return {}
    return {**parts["train"], **parts["validation"]}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(documents=corpora(), more=corpora(), share=st.integers(1, 99))
def test_a_search_and_a_comparison_share_neither_a_file_nor_a_paragraph(
    tmp_path: Path, documents: list[Document], more: list[Document], share: int
) -> None:
    """And who reads a file is decided by its name alone, whatever else is read."""
    unlike = [Document(source="s", path=str(1000 + n), text=" ".join(f"{n}x{w}" for w in range(30))) for n in range(12)]
    found = {of: read_by(tmp_path, [*documents, *unlike], split=of, search_share=f"{share}%")
             for of in ("search", "comparison")}
    assert not found["search"].keys() & found["comparison"].keys()
    pieces = [{" ".join(p.split()) for text in texts.values() for p in cut(text)} for texts in found.values()]
    assert not {p for p in pieces[0] & pieces[1] if len(p) >= 40}
    if all(found.values()):
        assert {1000 + n for n in range(12)} <= found["search"].keys() | found["comparison"].keys()
    again = read_by(tmp_path, [*unlike, *more], split="comparison", search_share=f"{share}%")
    assert not again.keys() & {path for path in found["search"] if path >= 1000}


def test_a_stop_is_honoured_while_it_splits(tmp_path: Path) -> None:
    def pause() -> None:
        raise Stopped

    shelf = shelf_of(tmp_path, [Document(source="s", path="p", text="some text " * 50)])
    shelf.scratch.pause = pause
    with pytest.raises(Stopped):
        split(shelf, TextScience())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hashes=st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=9), max_size=9), run=st.integers(1, 12))
def test_grams_are_read_once_each_and_equal_ones_in_one_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashes: list[list[int]], run: int
) -> None:
    monkeypatch.setattr(scratch, "RUN_GRAMS", run)
    file = GramFile(Scratch(folder=Path(tempfile.mkdtemp(dir=tmp_path)), pause=lambda: None), "grams")
    for paragraph, some in enumerate(hashes):
        file.add(np.array(some, np.uint64), np.full(len(some), paragraph))
    file.seal()
    read = [file.read(ranges) for ranges in parts([file])]
    given = sorted((h, p) for p, some in enumerate(hashes) for h in some)
    assert sorted((int(h), int(p)) for part in read for h, p in zip(*part, strict=True)) == given
    assert len(file) == len(given)
    for number, (hash_G, _) in enumerate(read):
        others = {int(h) for other in read[:number] for h in other[0]}
        assert not others & {int(h) for h in hash_G}, "one hash, one part"
    file.remove()


@given(st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=6), max_size=20))
def test_seen_numbers_are_known_and_no_others(groups: list[list[int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "RECENT", 3)
        seen, plain = Seen(), set[int]()
        for group in groups:
            assert seen.known(group) == plain.intersection(group)
            seen.add(group)
            plain.update(group)
