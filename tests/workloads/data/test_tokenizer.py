"""Stage `tokenizer`: the same bytes each time, training text only, every text comes back."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import RecordError
from sweeps.language.science import TokenizerScience
from tests.workloads.data.contexts import FakeContext, make_tokens, run
from workloads.data import make_text, make_tokenizer
from workloads.data.make_tokenizer import END_OF_DOCUMENT, TOKENIZER, encoded, load_tokenizer, token_bytes

TEXT = "the rule gives the next state of each cell; größe naïve 日本語 🙂\n" * 40
SCRIPT = """
import hashlib, sys
from workloads.data.make_tokenizer import train
texts = [sys.stdin.read()[i:i + 300] for i in [0]] + ["ab ba cd dc ef fe " * 9, "fe ef dc cd ba ab " * 9]
sys.stdout.write(hashlib.sha256(train(iter(texts), 340).to_str().encode()).hexdigest())
"""


def test_training_twice_gives_the_same_file(texts: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    made = [make_tokens(tmp_path / n, {"notes": texts[0]}, vocabulary=400) for n in ("a", "b")]
    assert (made[0][0] / TOKENIZER).read_bytes() == (made[1][0] / TOKENIZER).read_bytes()
    assert made[0][1]["vocabulary"] == 400
    assert made[0][1]["bytes_per_token"] > 1.5


def test_other_processes_threads_and_hash_seeds_give_the_same_file() -> None:
    found = set()
    for seed, threads in (("0", "1"), ("1", "4"), ("2", "2")):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], input=TEXT, capture_output=True, text=True, timeout=60, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads, "PYTHONIOENCODING": "utf-8"},
        )
        found.add(done.stdout)
    assert len(found) == 1
    assert len(found.pop()) == len(hashlib.sha256().hexdigest())


def test_held_out_text_is_not_trained_on(texts: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in (make_text.TRAIN, make_text.VALIDATION):
        (tmp_path / "in" / name).write_bytes((texts[0] / name).read_bytes())
    before = make_tokens(tmp_path / "a", {"notes": tmp_path / "in"}, vocabulary=400)[0] / TOKENIZER
    with (tmp_path / "in" / make_text.VALIDATION).open("a") as out:
        out.write('{"text": "' + "zyxwv " * 500 + '"}\n')
    after = make_tokens(tmp_path / "b", {"notes": tmp_path / "in"}, vocabulary=400)[0] / TOKENIZER
    assert before.read_bytes() == after.read_bytes()


@given(st.text(max_size=60))
def test_every_text_comes_back_and_its_bytes_are_counted(tokenizer: Path, text: str) -> None:
    loaded = load_tokenizer(tokenizer / TOKENIZER)
    ids = loaded.encode(text).ids
    sizes = token_bytes(loaded)
    assert loaded.decode(ids, skip_special_tokens=False) == text
    assert sum(sizes[i] for i in ids) == len(text.encode())


def test_the_end_of_document_written_in_a_text_is_text(tokenizer: Path) -> None:
    loaded = load_tokenizer(tokenizer / TOKENIZER)
    text = f"models use {END_OF_DOCUMENT} here"
    [(ids, _)] = encoded(loaded, iter([text]))
    assert loaded.token_to_id(END_OF_DOCUMENT) not in ids
    assert loaded.decode(ids) == text


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    science = TokenizerScience(corpora=("code",))
    with pytest.raises(RecordError, match="no input 'text:code'"):
        run(FakeContext(tmp_path, "tokenizer", {"tokenizer": science}), make_tokenizer.run)


def test_no_more_held_out_text_is_measured_than_is_trained_on(
    texts: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    """All of a large corpus's would take hours."""
    documents = list(make_text.read_texts(texts[0] / make_text.VALIDATION))
    limit = len(documents[0].encode()) + 1
    folder, scores = make_tokens(tmp_path, {"notes": texts[0]}, vocabulary=400, max_bytes=limit)
    read = list(encoded(load_tokenizer(folder / TOKENIZER), iter(documents[:2])))
    assert len(documents) > 2
    assert scores["bytes_per_token"] == sum(len(text.encode()) for _, text in read) / sum(len(ids) for ids, _ in read)
