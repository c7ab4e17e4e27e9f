"""What sampling and scoring downstream items cost on one CPU thread, against a loop without a cache and `generate`.

    python -m benchmarks.sampling [--json] [--runs 5] [--items 8] [--shots 0] [--longest 64] [--samples 8] [--scales 1m]

Word problems of task `arithmetic`, temperature 1, batches of 16 rows for all; an untrained body of scale `tiny` and of
`1m`. All three draw from the same laws, and a token is one that belongs to a sample, its ending included. They take
turns within each run, and each figure is a median over runs. The loop without a cache runs the model on the whole text
for every token; it is given one batch.

    sampler, generate, no_cache                    tokens/s
    sampler_over_generate, sampler_over_no_cache   ratios within each run
    scoring, whole_rows                            tokens/s of prompts and choices; the prompt computed once for all
                                                   choices of an item, and for each of them anew
    scoring_over_whole_rows                        ratio within each run
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from tokenizers import Tokenizer

from benchmarks.report import ratio, show
from sweeps.language.presets import SCALES
from sweeps.language.science import ModelScience
from workloads.contract import Item
from workloads.data.make_tokenizer import END_OF_DOCUMENT, train
from workloads.downstream.items import posed
from workloads.downstream.sampling import Ask, Sampler, Sampling, choose, uniforms
from workloads.downstream.scoring import LENGTH_STEP, ROWS, Encoding, scores
from workloads.tasks._arithmetic import items
from workloads.tasks.arithmetic import ArithmeticScience
from workloads.training.model import build_model

VOCABULARY = 1_024
SMALLEST = ("--runs", "1", "--items", "1", "--longest", "2", "--samples", "2", "--scales", "tiny")


class Bench:
    """One model and what it is asked."""

    def __init__(self, scale: str, given: argparse.Namespace) -> None:
        """Build the model and a tokenizer of its vocabulary."""
        layers, width, mlp, heads = SCALES[scale].body
        self.device, self.length = torch.device("cpu"), SCALES[scale].sequence_length
        self.items: list[Item] = items(ArithmeticScience(items=given.items, shots=given.shots))
        modules = (argparse, inspect, statistics, json)
        self.tokenizer: Tokenizer = train(iter([*map(inspect.getsource, modules), *(
            item.prompt + item.answer for item in self.items)]), VOCABULARY)
        science = ModelScience(layers=layers, width=width, mlp=mlp, heads=heads, sequence_length=self.length)
        self.model: Any = build_model(
            science, self.tokenizer.get_vocab_size(), seed=0, purpose="pretrain", embedding_std=1.0).eval()
        self.end = cast(int, self.tokenizer.token_to_id(END_OF_DOCUMENT))
        self.how = Sampling(longest=given.longest)
        self.asks = [Ask(id=i.id, prompt=i.prompt, numbers=range(given.samples)) for i in self.items]

    def cached(self) -> int:
        """Sample with this project's sampler; return the tokens."""
        return sum(len(s.tokens) for s in Sampler(self.model, self.tokenizer, self.length, self.how)(self.asks))

    def generated(self) -> int:
        """Sample with `transformers.generate`, as many rows at a time; return the tokens."""
        found = 0
        for first in range(0, len(self.asks), max(ROWS // len(self.asks[0].numbers), 1)):
            asks = self.asks[first:first + max(ROWS // len(self.asks[0].numbers), 1)]
            prompts = [self._prompt(ask) for ask in asks]
            longest = max(map(len, prompts))
            tokens_BT = torch.tensor([[self.end] * (longest - len(p)) + p for p in prompts])
            mask_BT = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
            out_BT = self.model.generate(
                input_ids=tokens_BT, attention_mask=mask_BT, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                num_return_sequences=len(asks[0].numbers), max_new_tokens=self.how.longest, eos_token_id=self.end,
                pad_token_id=self.end, use_cache=True)
            for row in out_BT[:, longest:].tolist():
                found += row.index(self.end) + 1 if self.end in row else len(row)
        return found

    def uncached(self) -> int:
        """Draw one batch with the model run on the whole text for every token; return the tokens."""
        wanted = [(ask, number) for ask in self.asks for number in ask.numbers][:ROWS]
        texts = [self._prompt(ask) for ask, _ in wanted]
        drawn_BT = np.array([uniforms(0, ask.id, number, self.how.longest) for ask, number in wanted])
        live, found = [True] * len(texts), 0
        with torch.inference_mode():
            for step in range(self.how.longest):
                tokens_BT = torch.zeros((len(texts), max(map(len, texts))), dtype=torch.long)
                for row, text in enumerate(texts):
                    tokens_BT[row, :len(text)] = torch.tensor(text)
                ends_B = torch.tensor([len(text) - 1 for text in texts])
                hidden_BTD = self.model.model(input_ids=tokens_BT).last_hidden_state
                logits_BV = self.model.lm_head(hidden_BTD[torch.arange(len(texts)), ends_B])
                for row, token in enumerate(choose(logits_BV, drawn_BT[:, step], 1.0)[0]):
                    if live[row]:
                        texts[row].append(token)
                        found, live[row] = found + 1, token != self.end
                if not any(live):
                    break
        return found

    def scored(self) -> int:
        """Score every item; return the tokens of prompts and choices."""
        encoding = Encoding(self.tokenizer, self.length)
        encoded = [encoding.item(posed("arithmetic", item)) for item in self.items]
        assert len(list(scores(self.model, encoded, encoding.endings_V))) == len(self.items)
        return sum(len(row) for e in encoded for row in e.rows)

    def whole_rows(self) -> int:
        """Run prompt and choice of every row, in batches of the same rows and steps, without a shared prompt."""
        encoding = Encoding(self.tokenizer, self.length)
        encoded = [encoding.item(posed("arithmetic", item)) for item in self.items]
        rows = sorted(((row, e.start) for e in encoded for row in e.rows), key=lambda r: -(-len(r[0]) // LENGTH_STEP))
        for first in range(0, len(rows), ROWS):
            batch = rows[first:first + ROWS]
            places = -(-max(len(row) for row, _ in batch) // LENGTH_STEP) * LENGTH_STEP
            tokens_BT = torch.zeros((ROWS, places), dtype=torch.long)
            for place, (row, _) in enumerate(batch):
                tokens_BT[place, :len(row)] = torch.tensor(row)
            with torch.inference_mode():
                logits_BTV = self.model(input_ids=tokens_BT).logits
            for place, (row, start) in enumerate(batch):
                answer_AV, ids = logits_BTV[place, start - 1:len(row)].double(), torch.tensor(row[start:])[:, None]
                float((answer_AV[:-1].gather(-1, ids)[:, 0] - answer_AV[:-1].logsumexp(-1)).sum())
        return sum(len(row) for row, _ in rows)

    def _prompt(self, ask: Ask) -> list[int]:
        return [self.end, *self.tokenizer.encode(ask.prompt).ids]


def speed(work: Callable[[], int]) -> float:
    """Return the tokens per second of one call."""
    began = time.perf_counter()
    tokens = work()
    return tokens / (time.perf_counter() - began)


def measure(scale: str, given: argparse.Namespace) -> dict[str, float]:
    """Return tokens per second, and the medians of the ratios within each run."""
    bench = Bench(scale, given)
    kinds = {"sampler": bench.cached, "generate": bench.generated, "no_cache": bench.uncached, "scoring": bench.scored,
             "whole_rows": bench.whole_rows}
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for run in range(given.runs + 1):
        for kind, work in kinds.items():
            value = speed(work)
            if run:  # the first warms up
                found[kind].append(value)
    ratios = {f"sampler_over_{kind}": ratio(found["sampler"], found[kind]) for kind in ("generate", "no_cache")}
    ratios["scoring_over_whole_rows"] = ratio(found["scoring"], found["whole_rows"])
    return {name: statistics.median(values) for name, values in found.items()} | ratios


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--items", type=int, default=8, help="of each of three levels")
    parser.add_argument("--shots", type=int, default=0, help="solved examples before each item that is scored")
    parser.add_argument("--samples", type=int, default=8, help="of each item; 16 is a multiple of it")
    parser.add_argument("--longest", type=int, default=64)
    parser.add_argument("--scales", nargs="+", default=["tiny", "1m"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    show({scale: measure(scale, given) for scale in given.scales}, as_json=given.json)


if __name__ == "__main__":
    main()
