"""How fast stage `corpus` is.

    python -m benchmarks.tokenise [--json] [--repeats 5] [--megabytes 30] [--threads 2] [--vocabularies 1024 50000]

Tokens per second of the stage's work, from train.jsonl to synced shards, and of `tokenizers` alone (`encode_batch_fast`
of the same documents on as many threads, nothing written), in turns in the same run. The text is that of the embedded
domains; all ids are compared. The processor time of both is told beside: a busy machine shows there.

    tokens, bytes                      of the text
    ours_tokens_per_wall_second        the stage
    ours_tokens_per_processor_second   of the time of all its threads
    alone_tokens_per_wall_second       `tokenizers`
    alone_tokens_per_processor_second  the same of it
    ratio                              of the stage to `tokenizers` by the clock, median over turns
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from benchmarks.report import ratio, show
from sweeps.language.plugins import Domain
from sweeps.store.files import to_json
from workloads.data import make_text
from workloads.data.encoder import Encoder
from workloads.data.make_tokenizer import TOKENIZER, load_tokenizer, train
from workloads.data.paragraphs import normalise
from workloads.data.token_stream import Place, blocks, encoded_lines
from workloads.registry import load_registries

DOMAINS = ("code", "math", "web")
SHARD = 4_000_000
SMALLEST = ("--repeats", "1", "--megabytes", "1", "--vocabularies", "1024")
ALONE = "alone"
"""Argument of the process that runs `tokenizers` alone: how many threads it uses is settled at its first call."""


def write_text(folder: Path, size: int) -> Path:
    """Write about `size` bytes of the embedded domains, in turns, as stage `text` writes them."""
    registry = load_registries().domains
    domains: list[Domain] = [registry.find(name) for name in DOMAINS]
    turns = itertools.zip_longest(*(domain.load()(domain.science()) for domain in domains))
    path, written = folder / make_text.TRAIN, 0
    with path.open("w", encoding="utf-8") as out:
        for document in itertools.chain.from_iterable(turns):
            if document is not None and written < size:
                text = normalise(document.text)
                out.write(to_json({"source": document.source, "path": document.path, "text": text}) + "\n")
                written += len(text.encode())
    return path


def timed(work: Callable[[], tuple[int, str]]) -> dict[str, float | str]:
    """Return tokens, wall and processor seconds of `work`, and the SHA-256 of its ids."""
    wall, processor = time.perf_counter(), time.process_time()
    tokens, digest = work()
    return {"tokens": tokens, "wall": time.perf_counter() - wall, "processor": time.process_time() - processor,
            "sha256": digest}


def ours(text: Path, tokenizer: Tokenizer, threads: int) -> tuple[int, str]:
    """Encode a file into shards as the stage does, every shard hashed and synced."""
    block, digest, tokens = np.empty(SHARD, np.uint16), hashlib.sha256(), 0
    with closing(encoded_lines(text, Encoder(tokenizer), start=Place(), threads=threads)) as documents, \
            (text.parent / "shard.bin").open("wb") as out:
        for filled, _ in blocks(documents, block, Place()):
            if filled:
                out.write(block[:filled].data)
                os.fsync(out.fileno())
                digest.update(block[:filled].data)
                tokens += filled
    return tokens, digest.hexdigest()


def alone(text: Path, tokenizer: Tokenizer) -> tuple[int, str]:
    """Encode the same documents with `tokenizers` in batches; only the ids' hash is made of them."""
    digest, tokens, end = hashlib.sha256(), 0, tokenizer.token_to_id("<|endoftext|>")
    for batch in _batched(make_text.read_texts(text), 256):
        for found in tokenizer.encode_batch_fast(batch):
            ids = np.array([*found.ids, end], dtype=np.uint16)
            digest.update(ids.data)
            tokens += len(ids)
    return tokens, digest.hexdigest()


def _batched(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    while batch := list(itertools.islice(texts, size)):
        yield batch


def measure(folder: Path, threads: int, repeats: int) -> dict[str, float]:
    """Return medians over `repeats` turns.

    Raises:
        RuntimeError: the ids differ.
    """
    text, tokenizer = folder / make_text.TRAIN, load_tokenizer(folder / TOKENIZER)
    found: dict[str, list[dict[str, float]]] = {"ours": [], ALONE: []}
    for _ in range(repeats):
        found["ours"].append(timed(lambda: ours(text, tokenizer, threads)))  # type: ignore[arg-type]
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": str(threads)}
        done = subprocess.run([sys.executable, "-m", "benchmarks.tokenise", ALONE, str(folder)], check=True,
                              capture_output=True, text=True, env=environment)
        found[ALONE].append(json.loads(done.stdout))
    if len({run["sha256"] for runs in found.values() for run in runs}) != 1:
        raise RuntimeError("the ids differ")
    result = {"tokens": found["ours"][0]["tokens"], "bytes": float(text.stat().st_size)}
    for name, runs in found.items():
        for clock in ("wall", "processor"):
            result[f"{name}_tokens_per_{clock}_second"] = statistics.median(r["tokens"] / r[clock] for r in runs)
    speeds = {name: [run["tokens"] / run["wall"] for run in runs] for name, runs in found.items()}
    return result | {"ratio": ratio(speeds["ours"], speeds[ALONE])}


def main() -> None:
    """Print the figures."""
    if sys.argv[1:2] == [ALONE]:
        folder = Path(sys.argv[2])
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        tokenizer.encode_special_tokens = True
        print(json.dumps(timed(lambda: alone(folder / make_text.TRAIN, tokenizer))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=5, help="turns, of which the median counts")
    parser.add_argument("--megabytes", type=int, default=30, help="of text, as far as the domains have as much")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[1_024, 50_000])
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as name:
        text = write_text(Path(name), arguments.megabytes * 1_000_000)
        for size in arguments.vocabularies:
            train(itertools.islice(make_text.read_texts(text), 2_000), size).save(str(Path(name) / TOKENIZER))
            results[str(size)] = measure(Path(name), arguments.threads, arguments.repeats)
    show(results, as_json=arguments.json)


if __name__ == "__main__":
    main()
