"""Stage `text`: copies removed before the split, no leak across it, everything recorded."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from sweeps.errors import EnvironmentError_, StorageError, UsageError
from sweeps.language.science import IdentityScience, TextScience
from sweeps.store import files
from tests.workloads.data.conftest import fill, folder_domain
from tests.workloads.data.contexts import corpus_context, make_texts, run, text_context
from tests.workloads.data.test_split import shelf_of
from workloads.contract import Document, Stopped
from workloads.data import make_corpus, make_text
from workloads.data.documents import path_hash
from workloads.data.file_domain import FilesScience, Paths, file_domain
from workloads.data.paragraphs import cut, normalise
from workloads.data.split import smallest, split


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def grams(texts: list[dict[str, str]]) -> set[tuple[str, ...]]:
    found = set()
    for line in texts:
        words = re.findall(r"\w+", line["text"].lower())
        found |= {tuple(words[i:i + 13]) for i in range(len(words) - 12)}
    return found


def test_training_and_held_out_text_share_no_file_and_almost_no_13_gram(texts: tuple[Path, dict[str, float]]) -> None:
    folder, scores = texts
    train, validation = lines(folder / make_text.TRAIN), lines(folder / make_text.VALIDATION)
    assert not {d["path"] for d in train} & {d["path"] for d in validation}
    held = grams(validation)
    assert len(held & grams(train)) / len(held) <= 0.02
    assert scores["overlap_before"] > 0.02 >= scores["overlap"]
    assert len(validation) == 12


def test_a_search_never_reads_what_comparisons_evaluate_on(
    texts: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    """Not to train, and not to choose by: it holds out files of those that comparisons train on."""
    compared = {name: {d["path"] for d in lines(texts[0] / name)} for name in (make_text.TRAIN, make_text.VALIDATION)}
    folder, scores = make_texts(tmp_path, "notes", folder_domain(fill(tmp_path / "notes")), validation_share="20%",
                                split="search")
    train, validation = lines(folder / make_text.TRAIN), lines(folder / make_text.VALIDATION)
    found = [{d["path"] for d in part} for part in (train, validation)]
    assert not (found[0] | found[1]) & compared[make_text.VALIDATION] and not found[0] & found[1]
    assert found[0] | found[1] == compared[make_text.TRAIN] and len(found[1]) == 10, "20 % of 48"
    held = grams(validation)
    assert len(held & grams(train)) / len(held) <= 0.02 >= scores["overlap"]


def test_copies_are_kept_once_in_the_whole_domain(texts: tuple[Path, dict[str, float]]) -> None:
    folder, scores = texts
    everything = lines(folder / make_text.TRAIN) + lines(folder / make_text.VALIDATION)
    assert sum("\n  " in d["text"] for d in everything) == 1, "the licence, exact but for whitespace"
    assert scores["dropped_paragraphs"] == 2 * 19, "19 copies of the licence, 19 of the changed notice"
    assert sum(d["text"].endswith("short\n") for d in everything) == 20, "short lines are no copies"


def test_sources_and_scores_say_what_was_used(texts: tuple[Path, dict[str, float]]) -> None:
    folder, scores = texts
    recorded = files.read_json(folder / make_text.SOURCES)
    train = lines(folder / make_text.TRAIN)
    assert recorded["domain"] == "notes"
    assert recorded["sources"]["notes"]["documents"] == scores["documents"] == 60
    assert re.fullmatch("[0-9a-f]{64}", recorded["sources"]["notes"]["sha256"])
    assert scores["train_bytes"] == sum(len(d["text"].encode()) for d in train) == recorded["train"]["bytes"]
    assert "\r" not in "".join(d["text"] for d in train)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    fill(tmp_path / "notes")
    made = [make_texts(tmp_path / n, "notes", folder_domain(tmp_path / "notes"))[0] for n in ("a", "b")]
    for name in (make_text.TRAIN, make_text.VALIDATION, make_text.SOURCES):
        assert (made[0] / name).read_bytes() == (made[1] / name).read_bytes()


def test_at_most_max_bytes_of_whole_files_are_read(tmp_path: Path) -> None:
    domain = folder_domain(fill(tmp_path / "notes"))
    scores = make_texts(tmp_path / "a", "notes", domain, max_bytes=20_000)[1]
    assert 10_000 < scores["train_bytes"] + scores["validation_bytes"] <= 20_000
    with pytest.raises(UsageError, match="larger than documents.max_bytes"):
        make_texts(tmp_path / "b", "notes", domain, max_bytes=10)


def test_files_that_cannot_be_read_are_counted_and_named(tmp_path: Path) -> None:
    domain = folder_domain(fill(tmp_path / "notes"))
    (tmp_path / "notes" / "latin.txt").write_bytes(b"\xff\xfe\xff")
    folder, scores = make_texts(tmp_path / "a", "notes", domain)
    assert scores["skipped_files"] == 1
    assert "latin.txt: UnicodeDecodeError" in files.read_json(folder / make_text.SOURCES)["skipped_files"][0]


def test_other_sources_than_planned_are_refused(tmp_path: Path) -> None:
    context = text_context(tmp_path / "a", "notes", folder_domain(fill(tmp_path / "notes")))
    context.science = {**context.science, "identity": IdentityScience(sources={"notes": "1.0"})}
    with pytest.raises(EnvironmentError_, match=r"the plan was made with notes 1\.0"):
        run(context, make_text.run)


def test_a_stop_is_honoured(tmp_path: Path) -> None:
    context = text_context(tmp_path / "a", "notes", folder_domain(fill(tmp_path / "notes")))
    context.stop = lambda: True
    with pytest.raises(Stopped):
        run(context, make_text.run)


def test_a_domain_without_text_or_with_one_document_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentError_, match="no file that ends in"):
        make_texts(tmp_path / "a", "notes", folder_domain(tmp_path / "missing"))
    with pytest.raises(UsageError, match="nothing to train on"):
        make_texts(tmp_path / "b", "notes", folder_domain(fill(tmp_path / "one", documents=1)))


def test_overlap_across_paragraphs_is_found(tmp_path: Path) -> None:
    """Paragraphs too short to hold a 13-gram leak as a sequence; the held-out copy is dropped."""
    documents = []
    for name in ("a", "b", "c"):
        own = "\n\n".join(f"{name}{i} own words of this document number {i}" for i in range(30))
        shared = "\n\n".join(f"w{i} x{i} y{i}" for i in range(60))  # below SHORT_CHARS: no exact copy
        documents.append(Document(source="s", path=name, text=own + "\n\n" + shared))
    found = split(shelf_of(tmp_path, documents), TextScience(validation_share="30%"))
    assert found.overlap_before == 175 / 408, "180 shared words and the 7 before them, in a document of 420"
    assert found.overlap <= 0.02


def test_held_out_files_depend_on_their_names_alone() -> None:
    hash_D = np.array([int.from_bytes(path_hash(f"s/{i}"), "big") for i in range(50)], np.uint64)
    chosen = set(smallest(hash_D, 0.1).tolist())
    assert chosen == {49 - i for i in smallest(hash_D[::-1], 0.1).tolist()}
    assert len(chosen) == 5


def test_paragraphs_join_to_the_text() -> None:
    text = "a\r\n\r\n  b\n \t\n\nc\rd\n\n\ud800\0e\n"
    assert "".join(cut(text)) == normalise(text) == "a\n\n  b\n \t\n\nc\nd\n\ne\n"


def test_too_little_space_is_told_before_anything_is_written(
    texts: tuple[Path, dict[str, float]], tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a source whose size is known, and of a corpus, whose text lies there."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"{n} " * 400}) + "\n" for n in range(100)))

    class Rows(FilesScience):
        paths: Paths = (str(rows),)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    usage = shutil.disk_usage("/")._replace(free=int(make_text.ROOM * rows.stat().st_size) - 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    context = text_context(tmp_path / "a", "rows", file_domain(Rows))
    with pytest.raises(StorageError, match=r"text rows needs about 0\.\d+ GB.*nothing was written"):
        run(context, make_text.run)
    assert not any(context.attempt.artifacts.iterdir())
    fits = text_context(tmp_path / "b", "rows", file_domain(Rows), max_bytes=rows.stat().st_size // 2)
    assert run(fits, make_text.run)[1]["documents"] > 0, "no more is read than that"

    size = sum((texts[0] / name).stat().st_size for name in (make_text.TRAIN, make_text.VALIDATION))
    for free in (size - 1, size):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: usage._replace(free=free))
        corpus = corpus_context(tmp_path / str(free), texts[0], tokenizer)
        if free == size:
            assert run(corpus, make_corpus.run)[1]["train_tokens"] > 0
            continue
        with pytest.raises(StorageError, match="corpus of .*nothing was written"):
            run(corpus, make_corpus.run)
        assert not any(corpus.attempt.artifacts.iterdir())
