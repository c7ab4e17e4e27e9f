"""The stream of tokens: the same for any number of threads, and from any place in it; a stage goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.language.stage import Execution
from sweeps.store.records import checkpoints, open_attempt, read_parent
from tests.workloads.data.contexts import FakeContext, corpus_context, run
from workloads.contract import Stopped
from workloads.data import make_corpus, make_text, token_stream
from workloads.data.encoder import Encoder
from workloads.data.make_tokenizer import TOKENIZER, load_tokenizer
from workloads.data.token_stream import Encoded, Place, blocks, encoded_lines

Made = tuple[Path, dict[str, float]]


def documents_of(sizes: Sequence[int]) -> list[Encoded]:
    """Documents of one line of 10 bytes and a text of 7, numbered through."""
    ends = np.cumsum([0, *sizes])
    return [Encoded(ids=np.arange(a, b, dtype=np.uint32), line_bytes=10, text_bytes=7)
            for a, b in zip(ends[:-1], ends[1:], strict=True)]


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 25), st.data())
def test_blocks_hold_every_token_in_order_from_any_place(sizes: list[int], size: int, data: st.DataObject) -> None:
    documents, block = documents_of(sizes), np.empty(size, np.uint32)
    made = [(block[:n].copy(), place) for n, place in blocks(documents, block, Place()) if n]
    assert np.array_equal(np.concatenate([np.zeros(0, np.uint32), *(b for b, _ in made)]), np.arange(sum(sizes)))
    assert all(len(b) == size for b, _ in made[:-1])
    for place in (place for _, place in made):
        assert place.bytes == 7 * place.documents
        assert sum(sizes[:place.documents]) + place.skip in (sum(sizes), *range(0, sum(sizes), size))
    at = data.draw(st.integers(0, len(made)))
    start = made[at - 1][1] if at else Place()
    rest = documents[start.offset // 10:]
    again = [(block[:n].copy(), place) for n, place in blocks(rest, block, start) if n]
    assert [(b.tolist(), p) for b, p in again] == [(b.tolist(), p) for b, p in made[at:]]


@pytest.mark.parametrize("threads", [1, 3])
def test_documents_come_in_order_whatever_the_threads(
    texts: Made, tokenizer: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_stream, "BATCH_BYTES", 2_000)
    loaded = load_tokenizer(tokenizer / TOKENIZER)
    source = texts[0] / make_text.TRAIN
    found = list(encoded_lines(source, Encoder(loaded), start=Place(), threads=threads))
    expected = list(make_text.read_texts(source))
    assert [loaded.decode(e.ids[:-1].tolist()) for e in found] == expected
    assert [e.text_bytes for e in found] == [len(t.encode()) for t in expected]
    assert sum(e.line_bytes for e in found) == source.stat().st_size
    place = Place(offset=sum(e.line_bytes for e in found[:7]))
    rest = list(encoded_lines(source, Encoder(loaded), start=place, threads=threads))
    assert [e.ids.tolist() for e in rest] == [e.ids.tolist() for e in found[7:]]


def shards(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("asks", [8, 30])
def test_a_stopped_stage_goes_on_and_its_shards_are_the_same_bytes(
    texts: Made, tokenizer: Path, corpus: Made, tmp_path: Path, asks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked to leave at the question number `asks`, again and again, until it is through."""
    monkeypatch.setattr(token_stream, "BATCH_BYTES", 1)
    context, attempts = corpus_context(tmp_path, texts[0], tokenizer, shard_tokens=1_000), 0
    while True:
        attempts += 1
        left = iter(range(asks - 1))
        context.stop = lambda left=left: next(left, None) is None  # type: ignore[misc]
        try:
            folder, scores = run(context, make_corpus.run)
            break
        except Stopped:
            assert attempts < 200
            context.attempt = open_attempt(context.folder, {})
    assert attempts > 1
    assert scores == corpus[1]
    assert shards(folder) == shards(corpus[0])


def stopped_half_way(root: Path, texts: Made, tokenizer: Path) -> FakeContext:
    """A stage that was asked to leave after 60 questions, and a second attempt at it."""
    context, left = corpus_context(root, texts[0], tokenizer, shard_tokens=1_000), iter(range(60))
    context.stop = lambda: next(left, None) is None
    with pytest.raises(Stopped):
        run(context, make_corpus.run)
    context.attempt, context.stop = open_attempt(context.folder, {}), lambda: False
    return context


def test_what_is_finished_is_linked_and_not_made_again(texts: Made, tokenizer: Path, tmp_path: Path) -> None:
    context = stopped_half_way(tmp_path, texts, tokenizer)
    first = context.folder.attempt(1).artifacts
    names = {p.name for p in first.iterdir()}
    folder, _ = run(context, make_corpus.run)
    assert len(names) > 5
    assert {n for n in names if (folder / n).samefile(first / n)} == names
    parent = read_parent(context.folder.attempt(2))
    assert parent is not None and parent.attempt == 1 and parent.tokens == 1_000 * len(names)


@pytest.mark.parametrize("harm", ["a shard", "the checkpoint"])
def test_what_was_harmed_is_made_again(texts: Made, tokenizer: Path, corpus: Made, tmp_path: Path, harm: str) -> None:
    context = stopped_half_way(tmp_path, texts, tokenizer)
    shard = context.folder.attempt(1).artifacts / "train-00002.bin"
    harmed = shard if harm == "a shard" else next(context.folder.attempt(1).checkpoints.glob("*/corpus.json"))
    harmed.write_bytes(b"x" + harmed.read_bytes()[1:])
    folder, _ = run(context, make_corpus.run)
    assert read_parent(context.folder.attempt(2)) is None
    assert shards(folder) == shards(corpus[0])


def test_checkpoints_come_by_time(texts: Made, tokenizer: Path, tmp_path: Path) -> None:
    """A killed stage leaves nothing behind but these."""
    context = corpus_context(tmp_path, texts[0], tokenizer, shard_tokens=1_000)
    context.execution = Execution(checkpoint_seconds=0.0)
    _, scores = run(context, make_corpus.run)
    saved = [c.tokens for c in checkpoints(context.folder)]
    assert len(saved) >= scores["train_tokens"] // 1_000
    plain = corpus_context(tmp_path, texts[0], tokenizer, shard_tokens=1_000)
    run(plain, make_corpus.run)
    assert not checkpoints(plain.folder), "a short stage needs none"
