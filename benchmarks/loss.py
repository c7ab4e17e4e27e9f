"""The loss whole and in chunks (`engine.loss_chunk`): seconds of a forward and backward pass, and the most memory.

    python -m benchmarks.loss [--json] [--runs 7] [--vocabularies 1024 50257] [--chunks 1024 256 64]

A body of 1M parameters, 2,048 tokens, one thread, at two sizes of the vocabulary, whole and in chunks. Each figure
comes from a process of its own, because the most memory of a process never falls.

    seconds    of a pass, median
    megabytes  that passes took at most, beyond what was held before the first
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.report import show

SEQUENCES, LENGTH = 8, 256
SMALLEST = ("--runs", "1", "--vocabularies", "1024", "--chunks", "256")


def measure(vocabulary: int, chunk: int | None, runs: int) -> dict[str, float]:
    """Return the median seconds of a pass and the megabytes that passes took at most, in this process."""
    import torch

    from sweeps.language.science import ModelScience
    from workloads.training.model import build_model, cross_entropy_sum

    torch.set_num_threads(1)
    science = ModelScience(layers=4, width=128, mlp=512, heads=4, sequence_length=LENGTH)
    model = build_model(science, vocabulary, seed=0, purpose="pretrain", embedding_std=1.0)
    tokens = torch.randint(vocabulary, (SEQUENCES, LENGTH))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before, seconds = _peak_mb(), []
    for _ in range(runs + 1):  # the first warms up
        began = time.monotonic()
        if chunk is None:
            loss = cross_entropy_sum(model(input_ids=tokens).logits.flatten(0, 1), tokens.flatten())
        else:
            loss = model(input_ids=tokens, labels=tokens, chunk=chunk)
        loss.backward()  # type: ignore[no-untyped-call]
        seconds.append(time.monotonic() - began)
    return {"seconds": statistics.median(seconds[1:]), "megabytes": _peak_mb() - before}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[1_024, 50_257])
    parser.add_argument("--chunks", type=int, nargs="+", default=[1_024, 256, 64])
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        vocabulary, chunk = given.one
        print(json.dumps(measure(vocabulary, chunk, given.runs)))
        return
    figures: dict[str, Any] = {}
    for vocabulary in given.vocabularies:
        for chunk in (None, *given.chunks):
            command = [sys.executable, "-m", "benchmarks.loss", "--runs", str(given.runs), "--one",
                       json.dumps([vocabulary, chunk])]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            figures[f"{vocabulary} {chunk or 'whole'}"] = json.loads(done.stdout)
    show(figures, as_json=given.json)


if __name__ == "__main__":
    main()
