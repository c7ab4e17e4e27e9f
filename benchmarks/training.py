"""Training speed of this project against two plain PyTorch loops: same model, batch, precision and clipping.

    python -m benchmarks.training [--json] [--scale tiny] [--runs 10] [--updates 60]

`bare` is a loop as good as one can be written by hand. `released` is written as the code that was published with arXiv
2603.10055 is: `.item()` at every step, an optimiser that is not fused, a mask tensor instead of the causal flag, and
shifted copies of the logits. All of them run in this process on one thread in fp32, one after the other, `runs` times
interleaved. Ours is the stage's training time: data, rows and all, without evaluations and checkpoints, which
`benchmarks.checkpoints` times. About five minutes at `tiny`.

    ratio_median                     our tokens/s over the bare loop's; 0.95 is aimed at
    ratio_least, ratio_most          of all runs
    released_ratio_median            our tokens/s over the released loop's
    compiled_ratio_median            the bare loop's with a compiled body (`engine.compile`) over the bare loop's
    tokens_per_second                ours, median
    bare_tokens_per_second           the bare loop's
    released_tokens_per_second       the released loop's
    job_to_first_step_seconds        from the first line of this program to its first update, imports included
    second_stage_first_step_seconds  of another stage in the same process, from its beginning
    second_stage_seconds             of that whole stage of one update
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

BEGAN = time.monotonic()

import numpy as np  # noqa: E402 - the clock starts before the imports
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from benchmarks.report import ratio, show  # noqa: E402
from benchmarks.stage import Context, RandomCorpus, model_of, sections, train  # noqa: E402
from sweeps.language.presets import SCALES  # noqa: E402
from sweeps.language.science import OptimScience  # noqa: E402
from sweeps.store.layout import Layout  # noqa: E402
from workloads.training.model import build_model, compile_body, parameter_groups  # noqa: E402

SMALLEST = ("--runs", "1", "--updates", "2")


class Bench:
    """The three loops at one scale."""

    def __init__(self, scale: str, updates: int) -> None:
        """Prepare."""
        preset = SCALES[scale]
        self.scale, self.updates, self.batch = scale, updates, preset.batch_sequences
        self.model = model_of(scale)
        self.optim = OptimScience(batch_sequences=self.batch, lr=preset.lr)
        self.corpus = RandomCorpus(preset.vocabulary, self.model.sequence_length)
        self.tokens = updates * self.batch * self.model.sequence_length

    def ours(self, store: Layout, name: str, updates: int) -> dict[str, float]:
        """Train one stage; return its scores."""
        science = sections(self.scale, batch_sequences=self.batch, updates=updates)
        return train(Context(store, name, science), self.corpus)

    def bare(self, *, compiled: bool = False) -> float:
        """Train the same model in a plain loop; return tokens per second, without the seconds of compiling."""
        model = build_model(self.model, self.corpus.vocabulary, seed=0, purpose="pretrain", embedding_std=1.0)
        if compiled:
            compile_body(model, zero_stage=0)
            model(input_ids=self._batch(0)).logits.sum().backward()
            model.zero_grad(set_to_none=True)
        optimiser = torch.optim.AdamW(list(parameter_groups(model, self.optim.weight_decay)), lr=self.optim.lr,
                                      betas=(self.optim.beta1, self.optim.beta2), fused=True)
        batches = [self._batch(update) for update in range(self.updates)]
        labels = [F.pad(tokens[:, 1:], (0, 1), value=-100) for tokens in batches]  # saves a copy of the logits
        began = time.monotonic()
        for tokens, label in zip(batches, labels, strict=True):
            logits = model(input_ids=tokens).logits
            F.cross_entropy(logits.flatten(0, 1), label.flatten()).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.optim.clip)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return self.tokens / (time.monotonic() - began)

    def released(self) -> float:
        """Train the same model as the published code does; return tokens per second."""
        model = build_model(self.model, self.corpus.vocabulary, seed=0, purpose="pretrain", embedding_std=1.0)
        optimiser = torch.optim.AdamW(model.parameters(), lr=self.optim.lr, weight_decay=self.optim.weight_decay,
                                      betas=(self.optim.beta1, self.optim.beta2), fused=False)
        losses, length = [], self.model.sequence_length
        hidden = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
        mask = hidden.expand(self.batch, 1, length, length)
        began = time.monotonic()
        for update in range(self.updates):
            tokens = self._batch(update)
            logits = model(input_ids=tokens, attention_mask=mask).logits
            loss = F.cross_entropy(logits[:, :-1].reshape(-1, self.corpus.vocabulary), tokens[:, 1:].reshape(-1))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.optim.clip)
            optimiser.step()
            losses.append(loss.item())
        return self.tokens / (time.monotonic() - began)

    def _batch(self, update: int) -> torch.Tensor:
        index_B = np.arange(update * self.batch, (update + 1) * self.batch)
        return torch.from_numpy(self.corpus.train(index_B).astype(np.int64))


def measure(scale: str, runs: int, updates: int) -> dict[str, float]:
    """Return all figures."""
    bench, imported = Bench(scale, updates), time.monotonic() - BEGAN
    with tempfile.TemporaryDirectory() as folder:
        store = Layout(Path(folder))
        first = bench.ours(store, "first", 1)
        began = time.monotonic()
        second = bench.ours(store, "second", 1)
        second_seconds = time.monotonic() - began
        turns = [(bench.ours(store, f"r{n}", updates)["tokens_per_second"], bench.bare(), bench.released(),
                  bench.bare(compiled=True)) for n in range(runs + 1)][1:]  # the first warms up
    ours, bare, released, compiled = (list(column) for column in zip(*turns, strict=True))
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    return {
        "ratio_median": ratio(ours, bare), "ratio_least": min(ratios), "ratio_most": max(ratios),
        "released_ratio_median": ratio(ours, released), "compiled_ratio_median": ratio(compiled, bare),
        "tokens_per_second": statistics.median(ours),
        "bare_tokens_per_second": statistics.median(bare),
        "released_tokens_per_second": statistics.median(released),
        "job_to_first_step_seconds": imported + first["seconds_to_first_step"],
        "second_stage_first_step_seconds": second["seconds_to_first_step"], "second_stage_seconds": second_seconds,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--scale", default="tiny", choices=SCALES)
    parser.add_argument("--runs", type=int, default=10, help="turns, of which the median counts")
    parser.add_argument("--updates", type=int, default=60, help="of each loop in a turn")
    given = parser.parse_args()
    show(measure(given.scale, given.runs, given.updates), as_json=given.json)


if __name__ == "__main__":
    main()
