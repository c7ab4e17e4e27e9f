"""The science fields that no plug-in owns. Every value that can change a result is here, with its unit and source.

Sections in YAML: `model.*`, `transfer.*`, `prepretrain.*`, `pretrain.*`, `finetune.*`, `evaluate.*`, `downstream.*`,
`engine.*`, `tokenizer.*`, `corpus.*`, `documents.*` (section `text` of a stage). "Protocol" is this project's
description of the experiment (docs/protocol.md); "release" and "paper" are the code and the text of arXiv 2603.10055.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field

from sweeps.language.plugins import Science
from sweeps.language.units import Amount, Fraction, Redrawn

Positive = Annotated[int, Field(gt=0)]
Value = TypeVar("Value")


def _rising(ends: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    if any(a.ratio >= b.ratio for a, b in itertools.pairwise(ends)):
        raise ValueError("shares must rise, for instance [50%, 70%, 100%]")
    return ends


def _distinct(names: tuple[Value, ...]) -> tuple[Value, ...]:
    if len(set(names)) < len(names):
        raise ValueError("a name is given twice; give each once")
    return names


def _components(redrawn: tuple[Redrawn, ...]) -> tuple[Redrawn, ...]:
    if len({r.component for r in redrawn}) < len(redrawn):
        raise ValueError("a component is given twice; give each once, with one range of layers")
    return tuple(sorted(redrawn))  # the order means nothing


def _leaves_some(share: Fraction) -> Fraction:
    if share.ratio == 1:
        raise ValueError("must be below 100%, which leaves a comparison nothing")
    return share


Ends = Annotated[tuple[Fraction, ...], Field(min_length=1), AfterValidator(_rising)]
Names = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]
Passes = Annotated[tuple[Positive, ...], AfterValidator(_distinct)]


class ModelScience(Science):
    """A Llama body: RMSNorm, RoPE, SwiGLU. Body parameters L(4d^2 + 3dm + 2d) + d."""

    layers: Positive = 2
    """L, decoder layers."""
    width: Positive = 64
    """d, residual width."""
    mlp: Positive = 256
    """m, inner width of the gated MLP."""
    heads: Positive = 2
    """Attention heads; divides the width."""
    sequence_length: Annotated[int, Field(ge=8)] = 256
    """T, tokens of a training sequence."""
    rope_base: Annotated[float, Field(gt=1)] = 10_000.0
    """Base of the rotary position encoding (Llama: 10,000)."""
    init_std: Annotated[float, Field(gt=0)] = 0.02
    """Standard deviation of the body's weight matrices at initialisation (Llama: 0.02)."""
    norm_epsilon: Annotated[float, Field(gt=0)] = 1e-6
    """Added to the mean square in RMSNorm (transformers' default; most published Llama checkpoints have 1e-5)."""
    tied: bool = False
    """True: the output embedding is the input embedding."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the attention weights that training sets to zero, drawn by each rank's generator (a Llama has no other
    dropout; release, paper and fair: none). Evaluations draw nothing."""

    @property
    def body_parameters(self) -> int:
        """L(4d^2 + 3dm + 2d) + d: everything but input and output embeddings."""
        d, m = self.width, self.mlp
        return self.layers * (4 * d * d + 3 * d * m + 2 * d) + d

    def flops_per_token(self, vocabulary: int) -> float:
        """Training FLOPs per token: 6 per weight of body and output head, and 6 L d T of causal attention.

        The input embedding is a look-up and costs nothing (Kaplan et al. 2020; the attention term of Chowdhery et al.
        2022, halved by the mask).
        """
        weights = self.body_parameters + vocabulary * self.width
        return 6.0 * weights + 6.0 * self.layers * self.width * self.sequence_length


class TransferScience(Science):
    """What of the pre-pre-trained model reaches pre-training."""

    embedding_init: Annotated[float, Field(gt=0)] = 1.0
    """Standard deviation of freshly drawn input embeddings, for every arm. Release: 1.0 (PyTorch's default), 50 times
    the body's 0.02. This field decides the sign of the effect at small scale (protocol section 4)."""
    embeddings: Literal["reinit", "keep"] = "reinit"
    """`reinit`: input and output embeddings are drawn anew, the body alone is carried over. `keep`: they are carried
    over too, which needs an upstream with the tokenizer's token ids (`text`). As an axis it applies to those alone."""
    head: Literal["as_embeddings", "reinit", "keep"] = "as_embeddings"
    """The same for the output embedding alone. A tied model has none of its own."""
    reinit: Annotated[tuple[Redrawn, ...], AfterValidator(_components)] = ()
    """What of the body is drawn anew, as scratch's: `attention`, `mlp`, `norm` (the gains of RMSNorm), each in all
    layers, or in some: `[attention, mlp@0-11]`."""
    rescale: bool = False
    """True: every matrix that is carried over gets the Frobenius norm of its fresh values; vectors stay."""


class OptimScience(Science):
    """Optimiser and schedule of one training stage."""

    lr: Annotated[float, Field(gt=0)] = 2e-3
    """Peak learning rate."""
    batch_sequences: Positive = 4
    """Sequences per update."""
    schedule: Literal["wsd", "cosine"] = "wsd"
    """`wsd`: warm-up, stable, decay branches; `cosine`: warm-up, then cosine to `final_lr_ratio` at the horizon."""
    warmup: Amount = Amount("10k")
    """Linear warm-up: absolute tokens (`10k`), or a share of the horizon (`10%`, cosine only)."""
    decay: Fraction = Fraction("10%")
    """WSD: the last share of an annealed end's own tokens over which the rate falls linearly. Independent of the
    trunk's horizon, so that budgets are points on one trunk."""
    horizon: Amount = Amount("100%")
    """Cosine: length of the schedule, in tokens or as a share of the stage's tokens (release: 1.64B for every upstream
    budget, so that its checkpoint at 164M is the last warm-up step)."""
    final_lr_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Rate at the end over the peak rate."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Adam's first-moment decay."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Adam's second-moment decay."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Adam's denominator offset."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Decoupled weight decay on matrices (paper: 1e-4 in pre-training, none in pre-pre-training)."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest global gradient norm; 0: no clipping."""
    summed_steps: Positive = 1
    """Accumulation steps whose gradients are summed, not averaged, before clipping: what is clipped is so many times
    the mean gradient (release: 32, so that `clip` cuts 32 times harder). A factor, whatever the micro-batch is."""


class PretrainScience(OptimScience):
    """Pre-training on the domain."""

    tokens: Amount = Amount("1x")
    """PT tokens at the last end; `1x` is the scale's reference."""
    ends: Ends = (Fraction("50%"), Fraction("70%"), Fraction("100%"))
    """Shares of `tokens` with an annealed end of their own (WSD). Only these are scored."""
    equal: Literal["pretrain_tokens", "total_tokens", "total_flops"] = "pretrain_tokens"
    """What all arms have alike. The totals charge pre-pre-training: an arm has so many pre-training tokens less, on its
    own horizon, and is compared with the baseline at its own last end. As an axis it applies to arms that train."""


class PrepretrainScience(OptimScience):
    """Pre-pre-training on the upstream. Its budget is the grid's axis `token_budget`."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay (release: none)."""


class RowsScience(Science):
    """How the items of a task become training sequences: one item a row."""

    loss: Literal["answer", "all"] = "answer"
    """`answer`: the tokens of the answer and its end alone are targets; `all`: the prompt's are too."""
    sequence_length: Annotated[int, Field(ge=8)] | None = None
    """Tokens of a row; a longer item loses the beginning of its prompt. None: the model's."""


class FinetuneScience(OptimScience, RowsScience):
    """Fine-tuning on a task's training items. A task may state its published recipe (`ItemTask.recipes`)."""

    schedule: Literal["wsd", "cosine"] = "cosine"
    """As in pre-training; cosine."""
    warmup: Amount = Amount("10%")
    """As in pre-training (release: 10 %)."""
    updates: Positive = 500
    """Optimiser updates; the stage tells how many epochs of its items they are."""
    items: Positive = 200
    """Training items of each level, of a task that draws them."""
    worked: bool = False
    """True: the answers trained on are worked solutions, where the task has them (release: of GSM8K)."""


class EvaluateScience(Science):
    """When and on how much held-out data losses are measured."""

    every: Amount = Amount("5%")
    """Distance of the evaluations along a pre-training trunk, as a share of `pretrain.tokens` or in tokens."""
    trunk_tokens: Amount = Amount("4k")
    """Held-out tokens per evaluation along the trunk (drawn, never scored)."""
    end_tokens: Amount = Amount("32k")
    """Held-out tokens of an evaluation at an annealed end, and per domain in stage `evaluate`."""
    tasks: Names = ("domain_loss", "copying")
    """Tasks measured on the final model of every trial and on its untrained twin."""
    gate_tokens: Amount = Amount("32k")
    """Held-out upstream tokens of the upstream gate."""


class ScoringScience(Science):
    """How the items of downstream tasks are scored."""

    passes: Passes = (1, 10, 100)
    """k of the rungs `pass@k`, but where programs are written and run: that task's `generation.passes`."""
    truncated_limit: Fraction = Fraction("5%")
    """Where more prompts than this share lose their beginning, because they are longer than the model's sequence, the
    task is not evaluated."""


class DownstreamScience(ScoringScience):
    """Downstream tasks."""

    tasks: Annotated[tuple[str, ...], AfterValidator(_distinct)] = ()
    """Downstream tasks, scored item by item on the final model of every trial and on its untrained twin."""
    finetune: Annotated[tuple[str, ...], AfterValidator(_distinct)] = ()
    """Those of them on whose training items the final model is fine-tuned first (`finetune.*`); it is scored before and
    after."""


class EngineScience(Science):
    """What of the engine changes the last bits."""

    precision: Literal["fp32", "bf16", "autocast"] = "fp32"
    """`bf16`: bf16 weights with fp32 master copy (ZeRO 1-3); `autocast`: fp32 weights, bf16 arithmetic."""
    threads_per_rank: Positive = 1
    """CPU threads of one rank; they change the order of sums, so they belong to the identity."""
    loss_chunk: Positive | None = None
    """Tokens whose logits are held at a time, by training and its evaluations; the backward pass computes them again.
    It changes the order of sums. None: those of a micro-batch at once."""
    compile: bool = False
    """Training runs kernels that torch.compile makes of the body (ZeRO 0 to 2; a C++ compiler where the job runs).
    They sum in another order. Each job compiles before its first update. Evaluations are never compiled."""


class TextScience(Science):
    """Extraction, deduplication and split of a domain's documents."""

    max_bytes: Positive = 6_000_000
    """At most this many bytes of text per domain, whole files in the order of a hash of their path."""
    validation_share: Fraction = Fraction("8%")
    """Share of the files that is held out."""
    overlap_limit: Fraction = Fraction("2%")
    """Largest share of validation 13-grams (of words) that also occur in training; paragraphs above it are dropped."""
    near_duplicates: Fraction | None = None
    """Whole documents are left out whose shingles of five words have this Jaccard similarity or more with those of an
    earlier one (by MinHash), before the split and so across it: `80%`. None: paragraphs alone are compared."""
    split: Literal["comparison", "search"] = "comparison"
    """`search`: the files that comparisons hold out are set aside, and others are held out of those that are left."""
    search_share: Annotated[Fraction, AfterValidator(_leaves_some)] | None = None
    """A search reads this share of the files (by a hash of their name) and no other, a comparison the rest: `30%`. A
    comparison takes it from the search that it names. None: the two share what they train on."""

    @property
    def read(self) -> float:
        """The share of the text that is kept for the one who reads it, a number between 0 and 1."""
        share = self.search_share.ratio if self.search_share else None
        return 1.0 if share is None else share if self.split == "search" else 1.0 - share


class TokenizerScience(Science):
    """One byte-level BPE over a fixed list of corpora, shared by all domains of a sweep."""

    vocabulary: Annotated[int, Field(ge=257, le=262_144)] = 1_024
    """Number of token ids, the end-of-document token included. Above 65,536 a token of the shards takes four bytes."""
    corpora: Names = ("code", "math", "web")
    """Domains it is trained on; adding a domain to the sweep does not change it."""
    max_bytes: Positive = 2_000_000
    """Bytes of training text read per corpus."""


class CorpusScience(Science):
    """Text to tokens."""

    shard_tokens: Positive = 4_000_000
    """Tokens per shard."""


class SeedScience(Science):
    """The random seed of a stage."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Trial seed: data order, body initialisation, rules. Arms of one seed share order and initialisation."""


class SegmentScience(Science):
    """The point of a training run that a stage reaches. A stage is *the state after `end_tokens`*; which earlier
    state it was continued from is recorded in its attempt and is no part of its identity (resume is bit-exact)."""

    end_tokens: Positive
    """Tokens consumed when the stage ends; a whole number of updates."""
    decay_from: Annotated[int, Field(ge=0)] | None = None
    """Where the decay branch left the trunk; None: a point on the trunk."""
    horizon_tokens: Positive | None = None
    """Length of the whole schedule where the schedule depends on it (cosine); None under WSD."""
    warmup_tokens: Annotated[int, Field(ge=0)] = 0
    """Warm-up resolved to tokens."""


class ValidationScience(Science):
    """Evaluations inside a pre-training stage, resolved to tokens."""

    every_tokens: Positive
    """Distance of evaluations along the trunk, a multiple of the update's tokens."""
    trunk_tokens: Positive
    """Held-out tokens per evaluation along the trunk."""
    end_tokens: Positive
    """Held-out tokens at an annealed end."""


class MeasureScience(Science):
    """What an `evaluate` stage measures, and on what."""

    subject: Literal["pretrained", "prepretrained", "finetuned", "untrained"]
    """`untrained` is the twin: same initialisation, no training."""
    tokens: Positive = 32_768
    """Held-out tokens per data set."""


class BlockScience(Science):
    """The accepted rules that a `rules` stage makes: a pure function of (seed, stream, bank fields, index)."""

    stream: Literal["train", "held_out"] = "train"
    """Held-out rules are never trained on."""
    first: Annotated[int, Field(ge=0)] = 0
    """Index of the first rule."""
    count: Positive = 1_024
    """Rules in the block."""


class SearchScience(Science):
    """How a search chooses among its candidates, the values of the axes `pretrain.lr` and `transfer.embedding_init`."""

    model_config = ConfigDict(use_attribute_docstrings=True)  # a person writes it as `search:`

    eta: Annotated[int, Field(ge=2)] = 3
    """Of the candidates that reach a rung (an annealed end, `pretrain.ends`), the best 1/eta go on."""


class IdentityScience(Science):
    """Revision or SHA-256 of the outside data that a stage reads."""

    sources: dict[str, str | None] = {}
    """Source -> version or SHA-256; None where it is not installed."""


SECTIONS: dict[str, type[Science]] = {
    "model": ModelScience,
    "transfer": TransferScience,
    "optim": OptimScience,
    "prepretrain": PrepretrainScience,
    "pretrain": PretrainScience,
    "finetune": FinetuneScience,
    "rows": RowsScience,
    "evaluate": EvaluateScience,
    "scoring": ScoringScience,
    "downstream": DownstreamScience,
    "engine": EngineScience,
    "text": TextScience,
    "tokenizer": TokenizerScience,
    "corpus": CorpusScience,
    "seed": SeedScience,
    "segment": SegmentScience,
    "validation": ValidationScience,
    "measure": MeasureScience,
    "block": BlockScience,
    "identity": IdentityScience,
    "search": SearchScience,
}
"""Section name -> model, for every section that no plug-in owns."""

AUTHORED: dict[str, str] = {
    name: name
    for name in ("model", "transfer", "prepretrain", "pretrain", "finetune", "evaluate", "downstream", "engine",
                 "tokenizer", "corpus")
} | {"documents": "text"}
"""Prefix that a person writes under `fields:` -> section; the other sections are derived."""
