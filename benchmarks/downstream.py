"""What it costs to evaluate one checkpoint on the built-in downstream tasks: seconds and tokens/s by task and rung.

    python -m benchmarks.downstream [--json] [--scales tiny 160m] [--items 4] [--threads 1] [--device cpu]

The weights are random: cost does not depend on what a model has learned, but for where its samples end. Random ones
hardly end, so `samples` is the most that they cost. Rungs that read the same numbers cost nothing more than the first
of them, so there are three groups. Seconds are of the whole task, in proportion to the items that were measured,
`--items` of each level; tokens are of prompts and choices, or of samples, without padding.

    items                                 of the whole task
    answer, choices, samples              seconds: the right answer's log-probability (rungs `answer_bits`, `exact` and
                                          the exact `pass@k`); those of all choices (`probability`, `margin`, `cloze`
                                          too); what the model writes
    answer_rate, choices_rate, samples_rate                 tokens/s
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import logging
import pathlib
import statistics
import tarfile
import time
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer

from benchmarks.report import show
from sweeps.language.plugins import ItemTask
from sweeps.language.presets import SCALES
from sweeps.language.science import ModelScience
from workloads.data.make_tokenizer import train
from workloads.downstream.items import Posed, posed
from workloads.downstream.sampling import Ask, Sampler, Sampling
from workloads.downstream.scoring import Encoding, scores
from workloads.registry import load_registries
from workloads.tasks._drawn import DrawnScience
from workloads.training.model import build_model

SMALLEST = ("--scales", "tiny", "--items", "1", "--samples", "1", "--longest", "4")


class Checkpoint:
    """A model with random weights, and a tokenizer."""

    def __init__(self, scale: str, tokenizer: Tokenizer, device: str) -> None:
        """Build the model, with the scale's vocabulary; ids that no text gives fill the tokenizer's up to it."""
        layers, width, mlp, heads = SCALES[scale].body
        self.scale, self.tokenizer, self.length = scale, tokenizer, SCALES[scale].sequence_length
        self.device = torch.device(device)
        tokenizer.add_tokens([f"<unused{i}>" for i in range(SCALES[scale].vocabulary - tokenizer.get_vocab_size())])
        self.vocabulary = tokenizer.get_vocab_size()
        science = ModelScience(layers=layers, width=width, mlp=mlp, heads=heads, sequence_length=self.length)
        self.model: Any = build_model(
            science, self.vocabulary, seed=0, purpose="pretrain", embedding_std=1.0).to(self.device).eval()

    def score(self, items: Sequence[Posed]) -> int:
        """Score every choice of the items; return the tokens of prompts and choices."""
        encoding = Encoding(self.tokenizer, self.length)
        encoded = [encoding.item(item) for item in items]
        found = list(scores(self.model, encoded, encoding.endings_V))
        assert len(found) == len(items)
        return sum(len(row) for e in encoded for row in e.rows)

    def sample(self, items: Sequence[Posed], number: int, longest: int) -> int:
        """Draw `number` samples of each item; return their tokens."""
        sampler = Sampler(self.model, self.tokenizer, self.length, Sampling(longest=longest))
        asks = [Ask(id=item.id, prompt=item.prompt, numbers=range(number)) for item in items]
        return sum(len(sample.tokens) for sample in sampler(asks))


def tokenizer_of(vocabulary: int) -> Tokenizer:
    """Return a tokenizer trained on sources of the standard library, of at most so many tokens."""
    modules = (argparse, dataclasses, inspect, json, logging, pathlib, statistics, tarfile, typing)
    return train(iter(map(inspect.getsource, modules)), vocabulary)


def tasks() -> Iterator[tuple[str, ItemTask]]:
    """Yield the built-in tasks."""
    yield from ((key, task) for key, task in load_registries().tasks.items()
                if isinstance(task, ItemTask) and issubclass(task.science, DrawnScience))


def measure(checkpoint: Checkpoint, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return what each task costs, and all together: medians over runs, the first left out."""
    found: dict[str, dict[str, float]] = {}
    for name, task in tasks():
        whole = len(task.load()(task.science()))
        items = [posed(name, item) for item in task.load()(task.science.model_validate({"items": given.items}))]
        gold = [replace(item, choices_C=(item.choices_C[item.gold],), gold=0) for item in items]
        groups: dict[str, Callable[[], int]] = {
            "answer": lambda gold=gold: checkpoint.score(gold),  # type: ignore[misc]
            "choices": lambda items=items: checkpoint.score(items),  # type: ignore[misc]
            "samples": lambda items=items: checkpoint.sample(items, given.samples, given.longest),  # type: ignore[misc]
        }
        found[name] = {"items": whole}
        for group, work in groups.items():
            timed = [_timed(work) for _ in range(given.runs + 1)][1:]
            seconds = statistics.median(s for s, _ in timed)
            found[name] |= {group: seconds * whole / len(items), f"{group}_rate": timed[0][1] / seconds}
    found["all"] = {group: sum(cost[group] for cost in found.values()) for group in ("answer", "choices", "samples")}
    return found


def _timed(work: Callable[[], int]) -> tuple[float, int]:
    began = time.perf_counter()
    tokens = work()
    return time.perf_counter() - began, tokens


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--scales", nargs="+", default=["tiny", "160m"], choices=sorted(SCALES))
    parser.add_argument("--runs", type=int, default=1, help="timed ones, after one that is not")
    parser.add_argument("--items", type=int, default=4, help="measured of each level")
    parser.add_argument("--samples", type=int, default=4, help="of each item; 16 is a multiple of it")
    parser.add_argument("--longest", type=int, default=32, help="tokens of a sample at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    show({scale: measure(Checkpoint(scale, tokenizer_of(SCALES[scale].vocabulary), given.device), given)
          for scale in given.scales}, as_json=given.json)


if __name__ == "__main__":
    main()
