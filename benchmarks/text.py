"""How long stage `text` takes on one core and on more, what a restart costs, and how much memory it needs.

    python -m benchmarks.text [--json] [--megabytes 5 20 80] [--near] [--cores 1 2] [--restart] [--against FOLDER]

Writes JSON lines of random words (Zipf's law over 50,000 words, documents of about 2 kB, a tenth of their paragraphs
repeated), and runs the stage on them in a process of its own for each size: seconds, peak of resident memory, and the
same less what it has after its imports. `--cores` are compared in the same run, one after another. `--restart` asks
each to leave after half its seconds and runs a second attempt. `--against` is the folder of another checkout, whose
stage then runs too, on one core. All artifacts are compared.

    seconds    of the stage
    cpu_s      processor time of the stage's own process, imports among it
    workers_s  processor time of its workers
    worker_mb  largest resident memory of one of them
    disk_mb    of its work files at the end
    lost_s     with --restart: seconds of both attempts less those of the undisturbed one
    peak_mb    largest resident memory
    grown_mb   the same, less what it was after the imports
    documents  that the stage kept
    sha256     of its artifacts
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

SMALLEST = ("--megabytes", "1", "--restart")
CHILD = "child"
HERE = Path(__file__).parent.parent
WORDS, PARAGRAPHS, REPEATED = 50_000, 6, 0.1


def write_rows(path: Path, size: int) -> None:
    """Write about `size` bytes of text as JSON lines, the same ones every time."""
    import numpy as np

    rng = np.random.default_rng(0)
    words = np.array([f"w{n:x}" for n in rng.permutation(WORDS)])
    law = 1 / np.arange(1, WORDS + 1)
    law /= law.sum()
    kept: list[str] = []
    written = 0
    with path.open("w", encoding="utf-8") as out:
        while written < size:
            drawn = words[rng.choice(WORDS, (PARAGRAPHS, 70), p=law)]
            texts = [" ".join(row) for row in drawn]
            for place in np.flatnonzero(rng.random(PARAGRAPHS) < REPEATED):
                if kept:
                    texts[place] = kept[rng.integers(len(kept))]
            kept = (kept + texts)[-1_000:]
            text = "\n\n".join(texts)
            out.write(json.dumps({"text": text}) + "\n")
            written += len(text)


def child(rows: Path, folder: Path, near: bool, stop_after: float) -> dict[str, Any]:
    """Run the stage, asked to leave after some seconds where they are not 0, and then once more.

    Returns its seconds and memory, and the SHA-256 of what it left.
    """
    from tests.workloads.data.contexts import run, text_context
    from workloads.data import make_text
    from workloads.data.file_domain import FilesScience, Paths, file_domain

    class Rows(FilesScience):
        paths: Paths = (str(rows),)

    context = text_context(folder, "rows", file_domain(Rows), max_bytes=10**12,
                           **({"near_duplicates": "80%"} if near else {}))
    before, began = _peak(), time.perf_counter()
    if stop_after:
        from sweeps.store.records import open_attempt
        from workloads.contract import Stopped

        context.stop = lambda: time.perf_counter() - began > stop_after
        with suppress(Stopped):
            run(context, make_text.run)
        context.stop, context.attempt = lambda: False, open_attempt(context.folder, {})
    made, scores = run(context, make_text.run)
    seconds = time.perf_counter() - began
    work = getattr(context.attempt.folder, "work", folder / "none")  # another checkout has no such folder
    digest = hashlib.sha256()
    for name in (make_text.TRAIN, make_text.VALIDATION, make_text.SOURCES):
        with (made / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return {"seconds": seconds, "cpu_s": sum(os.times()[:2]), "workers_s": sum(os.times()[2:4]),
            "worker_mb": _peak(resource.RUSAGE_CHILDREN), "peak_mb": _peak(), "grown_mb": _peak() - before,
            "disk_mb": sum(p.stat().st_size for p in work.rglob("*") if p.is_file()) / 1e6,
            "documents": scores["documents"], "sha256": digest.hexdigest()}


def _peak(of: int = resource.RUSAGE_SELF) -> float:
    return resource.getrusage(of).ru_maxrss * 1024 / 1e6


def measured(rows: Path, checkout: Path, near: bool, cores: int = 1, stop_after: float = 0) -> dict[str, Any]:
    """Return the figures of the stage of a checkout."""
    with tempfile.TemporaryDirectory(dir=rows.parent) as folder:
        command = [sys.executable, __file__, CHILD, str(rows), folder, str(int(near)), str(stop_after)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=checkout,
                              env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(cores)})
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the figures.

    Raises:
        RuntimeError: the artifacts of two checkouts differ.
    """
    if sys.argv[1:2] == [CHILD]:
        print(json.dumps(child(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "1", float(sys.argv[5]))))
        return
    from benchmarks.report import show  # another checkout's child may have none

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--megabytes", type=int, nargs="*", default=[5, 20, 80])
    parser.add_argument("--near", action="store_true", help="look for near duplicates of documents too")
    parser.add_argument("--cores", type=int, nargs="*", default=[1])
    parser.add_argument("--restart", action="store_true", help="stop it half-way, and run it again")
    parser.add_argument("--against", type=Path, help="another checkout")
    arguments = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        for size in arguments.megabytes:
            rows = Path(name) / f"{size}.jsonl"
            write_rows(rows, size * 1_000_000)
            found = results[f"{size} MB"] = {
                f"{cores} cores": measured(rows, HERE, arguments.near, cores) for cores in arguments.cores}
            if arguments.restart:
                for cores in arguments.cores:
                    whole = found[f"{cores} cores"]["seconds"]
                    again = measured(rows, HERE, arguments.near, cores, stop_after=whole / 2)
                    found[f"{cores} cores, stopped once"] = {**again, "lost_s": again["seconds"] - whole}
            if arguments.against:
                found["against"] = measured(rows, arguments.against.resolve(), arguments.near)
            if len({each["sha256"] for each in found.values()}) > 1:
                raise RuntimeError(f"the artifacts differ at {size} MB")
    show(results, as_json=arguments.json)


if __name__ == "__main__":
    main()
