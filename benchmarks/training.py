"""Training speed of this project against two plain PyTorch loops: same model, batch, precision and clipping.

    python -m benchmarks.training [--json] [--scale tiny] [--runs 10] [--updates 60]

`bare` is a loop as good as one can be written by hand. `released` is written as the code that was published with arXiv
2603.10055 is: `.item()` at every step, an optimiser that is not fused, a mask tensor instead of the causal flag, and
shifted copies of the logits. All of them run in this process on one thread in fp32, one after the other, `runs` times
interleaved. Ours is the stage's training time: data, rows and all, without evaluations and checkpoints, which
`benchmarks.checkpoints` times. About five minutes at `tiny`.

Where there is a GPU all of them use the first one. Ours has the scale's precision and ZeRO stage there, and searches
its micro-batch in the first stage; the later stages and the plain loops take the number that was found, and add up the
gradients of an update. Where the scale says bf16, ours has bf16 weights with an fp32 copy, and the loops have fp32
weights under bf16 autocast. `bare` finds its batches on the GPU, `released` copies each from pageable memory, and the
loops may use kernels that are not deterministic, which ours may not. The loops' clock is read when the GPU has done its
work; ours waits for the GPU at every 20th update, so `--updates` should be a multiple of that. This has not run on a
GPU yet.

    ratio_median                     our tokens/s over the bare loop's; 0.95 is aimed at
    ratio_least, ratio_most          of all runs
    released_ratio_median            our tokens/s over the released loop's
    compiled_ratio_median            the bare loop's with a compiled body (`engine.compile`) over the bare loop's
    tokens_per_second                ours, median
    bare_tokens_per_second           the bare loop's
    released_tokens_per_second       the released loop's
    mfu                              ours: FLOPs over the card's specified bf16 peak; null where that is not known
    matmul_share                     over what the card reaches in large matrix products; null on a CPU
    data_wait_share                  of our training time in which the host waited for sequences
    checkpoint_stall_seconds         of the one checkpoint at the end of a stage; beside the training time
    job_to_first_step_seconds        from the first line of this program to its first update, imports included
    second_stage_first_step_seconds  of another stage in the same process, from its beginning
    second_stage_seconds             of that whole stage of one update
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

BEGAN = time.monotonic()

import numpy as np  # noqa: E402 - the clock starts before the imports
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from benchmarks.report import ratio, show  # noqa: E402
from benchmarks.stage import NEVER, Context, RandomCorpus, model_of, sections, train  # noqa: E402
from sweeps.language.presets import SCALES  # noqa: E402
from sweeps.language.science import EngineScience, OptimScience  # noqa: E402
from sweeps.language.stage import AUTO, Execution  # noqa: E402
from sweeps.store.layout import Layout  # noqa: E402
from sweeps.store.micro_batch import noted  # noqa: E402
from workloads.training.model import build_model, compile_body, parameter_groups  # noqa: E402

SMALLEST = ("--runs", "1", "--updates", "2")
OF_OURS = ("mfu", "matmul_share", "data_wait_share", "checkpoint_stall_seconds")
"""What our stage says of itself, beside its speed; the first two not everywhere."""


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
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.engine, self.execution = EngineScience(), Execution(checkpoint_seconds=NEVER)
        if self.device.type == "cuda":
            self.engine = EngineScience(precision=preset.precision)
            self.execution = Execution(checkpoint_seconds=NEVER, zero_stage=preset.zero_stage, micro_batch=AUTO)
        self.micro = self.batch
        """Sequences of a forward pass of the plain loops."""

    def ours(self, updates: int) -> dict[str, float]:
        """Train one stage in a folder of its own; return its scores, and `stage_seconds` that it took in all."""
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            science = sections(self.scale, batch_sequences=self.batch, updates=updates) | {"engine": self.engine}
            context = Context(Layout(Path(folder)), "stage", science, execution=self.execution)
            scores = train(context, self.corpus) | {"stage_seconds": time.monotonic() - began}
            if self.execution.micro_batch == AUTO:
                self.micro = noted(context.attempt.folder) or self.batch
                self.execution = self.execution.model_copy(update={"micro_batch": self.micro})
        return scores

    def bare(self, *, compiled: bool = False) -> float:
        """Train the same model in a plain loop; return tokens per second, without the seconds of compiling."""
        model = self._model()
        if compiled:
            compile_body(model, zero_stage=0)
            with self._autocast():
                total = model(input_ids=self._batch(0)[:self.micro]).logits.sum()
            total.backward()
            model.zero_grad(set_to_none=True)
        optimiser = torch.optim.AdamW(list(parameter_groups(model, self.optim.weight_decay)), lr=self.optim.lr,
                                      betas=(self.optim.beta1, self.optim.beta2), fused=True)
        batches = [self._batch(update) for update in range(self.updates)]
        labels = [F.pad(tokens[:, 1:], (0, 1), value=-100) for tokens in batches]  # saves a copy of the logits
        began = self._clock()
        for batch, label in zip(batches, labels, strict=True):
            for tokens, targets in zip(torch.split(batch, self.micro), torch.split(label, self.micro), strict=True):
                with self._autocast():
                    logits = model(input_ids=tokens).logits
                    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
                (loss * (self.micro / self.batch)).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.optim.clip)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return self.tokens / (self._clock() - began)

    def released(self) -> float:
        """Train the same model as the published code does; return tokens per second."""
        model = self._model()
        optimiser = torch.optim.AdamW(model.parameters(), lr=self.optim.lr, weight_decay=self.optim.weight_decay,
                                      betas=(self.optim.beta1, self.optim.beta2))  # torch's default is not fused
        losses, length = [], self.model.sequence_length
        hidden = torch.full((length, length), torch.finfo(torch.float32).min, device=self.device).triu(1)
        mask = hidden.expand(self.micro, 1, length, length)
        began = self._clock()
        for update in range(self.updates):
            optimiser.zero_grad()
            for tokens in torch.split(self._batch(update), self.micro):
                with self._autocast():
                    logits = model(input_ids=tokens, attention_mask=mask).logits
                    loss = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1))
                (loss * (self.micro / self.batch)).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.optim.clip)
            optimiser.step()
            losses.append(loss.item())
        return self.tokens / (self._clock() - began)

    def _model(self) -> Any:
        torch.use_deterministic_algorithms(False)  # our stage leaves them on, on a GPU
        if self.device.type == "cuda":
            gc.collect()  # an engine that is closed still has its memory
            torch.cuda.empty_cache()
        model = build_model(self.model, self.corpus.vocabulary, seed=0, purpose="pretrain", embedding_std=1.0)
        return model.to(self.device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.engine.precision != "fp32")

    def _clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic()

    def _batch(self, update: int) -> torch.Tensor:
        index_B = np.arange(update * self.batch, (update + 1) * self.batch)
        return torch.from_numpy(self.corpus.train(index_B).astype(np.int64)).to(self.device)


def measure(scale: str, runs: int, updates: int) -> dict[str, float | None]:
    """Return all figures."""
    bench, imported = Bench(scale, updates), time.monotonic() - BEGAN
    first, second = bench.ours(1), bench.ours(1)
    stages, loops = [], []
    for _ in range(runs + 1):
        stages.append(bench.ours(updates))
        loops.append((bench.bare(), bench.released(), bench.bare(compiled=True)))
    del stages[0], loops[0]  # they warmed up
    ours = [scores["tokens_per_second"] for scores in stages]
    bare, released, compiled = (list(column) for column in zip(*loops, strict=True))
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    return {
        "ratio_median": ratio(ours, bare), "ratio_least": min(ratios), "ratio_most": max(ratios),
        "released_ratio_median": ratio(ours, released), "compiled_ratio_median": ratio(compiled, bare),
        "tokens_per_second": statistics.median(ours),
        "bare_tokens_per_second": statistics.median(bare),
        "released_tokens_per_second": statistics.median(released),
        **{name: statistics.median(s[name] for s in stages) if name in stages[0] else None for name in OF_OURS},
        "job_to_first_step_seconds": imported + first["seconds_to_first_step"],
        "second_stage_first_step_seconds": second["seconds_to_first_step"],
        "second_stage_seconds": second["stage_seconds"],
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
