"""Scales and protocols: named sets of science fields. Values from docs/protocol.md, sections 4 and 5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PAPER_SCALE = "1.6b"
"""The scale of the published runs; no other one inherits their budgets, rates or warm-up."""
PROTOCOLS = ("fair", "paper", "release")
"""`fair` is this project's recommendation; `paper` follows the text and `release` the code of arXiv 2603.10055."""


GPU_FLOPS_PER_SECOND = 989e12
"""bf16 peak of an H100 or H200 (SXM), dense, by NVIDIA's specification."""
TEXT_BYTES_PER_TOKEN = 6
"""Bytes of text that are read of a domain for each token of `1x`, so that `1x` is no more than one epoch. With 16,384
token ids a token of the embedded domains stands for 3.14 (math), 3.95 (web) and 3.95 bytes (code), measured; one of
openwebtext with GPT-2's 50,257 for 4.40, by its published counts; 8 % are held out, and copies are left out."""
GUESSED_MFU = 0.4
"""Share of that peak which a run is taken to use until one has been measured; causal FLOPs (`flops_per_token`)."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A model size and what goes with it."""

    body: tuple[int, int, int, int]
    """Layers, width, MLP width, heads."""
    sequence_length: int
    lr: float
    """Peak rate to start a search from; also used for pre-pre-training until a search has run."""
    batch_sequences: int
    """Sequences per pre-training update."""
    upstream_batch: int
    """Sequences per pre-pre-training update."""
    vocabulary: int
    """Tokenizer vocabulary."""
    rules_per_block: int
    """Accepted NCA rules in one `rules` stage."""
    precision: str = "bf16"
    zero_stage: int = 1
    pretrain_reference: int | None = None
    """Tokens of `pretrain.tokens: 1x`; None: 20 per body parameter."""
    upstream_reference: int | None = None
    """Tokens of `token_budget: 1x`; None: max(PT/55, 2,000 updates of 32 sequences)."""
    text_bytes: int | None = None
    """`documents.max_bytes`; None: `TEXT_BYTES_PER_TOKEN` for each token of `pretrain.tokens: 1x`."""
    upstream_lr: float | None = None
    """Peak rate of pre-pre-training (1.6b: the release's 1e-4, inherited by no other scale); None: `lr`."""
    guessed_flops_per_second: float = GUESSED_MFU * GPU_FLOPS_PER_SECOND
    """Speed of one rank until there are records of this scale."""
    guess: str = f"{GUESSED_MFU:.0%} of the {GPU_FLOPS_PER_SECOND / 1e12:.0f} TFLOP/s of an H100 or H200 in bf16"
    """What that speed is of."""

    @property
    def pretrain_tokens(self) -> int:
        """`1x` of `pretrain.tokens`."""
        layers, d, m, _ = self.body
        return self.pretrain_reference or 20 * (layers * (4 * d * d + 3 * d * m + 2 * d) + d)

    @property
    def upstream_tokens(self) -> int:
        """`1x` of `token_budget`."""
        if self.upstream_reference is not None:
            return self.upstream_reference
        return max(self.pretrain_tokens // 55, 2_000 * 32 * self.sequence_length)

    @property
    def upstream_horizon(self) -> int:
        """Tokens of the cosine that every budget is a point of: `10x`, whose warm-up of 10 % ends at `1x`."""
        update = self.upstream_batch * self.sequence_length
        return 10 * self.upstream_tokens // update * update

    def fields(self) -> dict[str, Any]:
        """Science fields that the scale sets, by dotted name."""
        layers, width, mlp, heads = self.body
        return {
            "model.layers": layers, "model.width": width, "model.mlp": mlp, "model.heads": heads,
            "model.sequence_length": self.sequence_length,
            "pretrain.lr": self.lr, "pretrain.batch_sequences": self.batch_sequences,
            "pretrain.warmup": max(self.pretrain_tokens // 20, 1),
            "prepretrain.lr": self.upstream_lr or self.lr, "prepretrain.batch_sequences": self.upstream_batch,
            "prepretrain.warmup": max(self.upstream_tokens // 20, 1),
            "finetune.lr": float(f"{self.lr / 10:.1g}"), "finetune.batch_sequences": self.batch_sequences,
            "documents.max_bytes": self.text_bytes or TEXT_BYTES_PER_TOKEN * self.pretrain_tokens,
            "tokenizer.vocabulary": self.vocabulary,
            "engine.precision": self.precision, "engine.threads_per_rank": 1,
        }


_SMALL = {"sequence_length": 256, "vocabulary": 1_024, "text_bytes": 6_000_000, "rules_per_block": 600,
          "precision": "fp32", "zero_stage": 0, "guessed_flops_per_second": 25e9, "guess": "25 GFLOP/s of one CPU core"}
_LARGE = {"sequence_length": 1_024, "upstream_batch": 32, "vocabulary": 16_384, "rules_per_block": 16_384}

SCALES: Mapping[str, Scale] = {
    "tiny": Scale(body=(2, 64, 256, 2), lr=4e-3, batch_sequences=4, upstream_batch=4, pretrain_reference=300_000,
                  upstream_reference=300_000, **_SMALL),  # type: ignore[arg-type]
    "1m": Scale(body=(4, 128, 512, 4), lr=2e-3, batch_sequences=8, upstream_batch=8, pretrain_reference=1_600_000,
                upstream_reference=600_000, **_SMALL),  # type: ignore[arg-type]
    "10m": Scale(body=(6, 320, 1280, 5), lr=2e-3, batch_sequences=64, **_LARGE),  # type: ignore[arg-type]
    "60m": Scale(body=(14, 512, 2048, 8), lr=1.5e-3, batch_sequences=128, **_LARGE),  # type: ignore[arg-type]
    "160m": Scale(body=(17, 768, 3072, 12), lr=1e-3, batch_sequences=256, **_LARGE),  # type: ignore[arg-type]
    "400m": Scale(body=(24, 1024, 4096, 16), lr=7e-4, batch_sequences=512, **_LARGE),  # type: ignore[arg-type]
    "1.6b": Scale(body=(24, 2048, 8192, 32), lr=5e-4, batch_sequences=512,
                  upstream_reference=5_000 * 32 * 1_024,  # "164M": 163.84M, a tenth of the release's 50,000 updates
                  upstream_lr=1e-4, **_LARGE),  # type: ignore[arg-type]
}

_PAPER: dict[str, Any] = {
    "pretrain.schedule": "cosine", "pretrain.warmup": "10%", "pretrain.ends": ["100%"], "pretrain.beta2": 0.999,
    "prepretrain.schedule": "cosine", "prepretrain.warmup": "10%", "prepretrain.beta2": 0.999,
    "prepretrain.clip": 0.0,
}

PROTOCOL_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "fair": {},
    "paper": _PAPER,
    "release": {**_PAPER, "pretrain.summed_steps": 32},  # its accumulation does not divide
}
"""Fields outside the plug-ins; a plug-in states its own per protocol. `fair` is the defaults themselves."""

_TOKENS = {"web": 9_020_000_000, "math": 4_190_000_000, "code": 12_580_000_000}
_FIELDS = {"code": {"lr": 2e-4, "warmup": 750 * 512 * 1_024}}
_CORPORA = {"openwebtext": "web", "open_web_math": "math", "codeparrot": "code"}
"""The corpora behind the paper's domains."""


def preset_fields(scale: str, protocol: str) -> dict[str, Any]:
    """Return what scale and protocol set outside the plug-ins, by dotted name."""
    horizon = {} if protocol == "fair" else {"prepretrain.horizon": SCALES[scale].upstream_horizon}
    return {**SCALES[scale].fields(), **horizon, **PROTOCOL_FIELDS[protocol]}


def domain_fields(scale: str, protocol: str, domain: str) -> Mapping[str, Any]:
    """Return what was published of pre-training on one domain alone: fields of `pretrain` without that prefix."""
    return _FIELDS.get(_CORPORA.get(domain, domain), {}) if protocol != "fair" and scale == PAPER_SCALE else {}


def pretrain_reference(scale: str, protocol: str, domain: str) -> int:
    """Return the tokens of `pretrain.tokens: 1x`: as published, where that was (`domain` may be empty)."""
    published = _TOKENS.get(_CORPORA.get(domain, domain)) if protocol != "fair" and scale == PAPER_SCALE else None
    return published or SCALES[scale].pretrain_tokens


SEARCH_SEEDS = 3
"""Fewer seeds of a search may choose by luck: with one, scratch at tiny was given values up to 0.08 nats worse than its
best, and every other arm gained as much (docs/results/lr_search.md)."""
SEARCHED = ("pretrain.lr", "transfer.embedding_init")
"""What a search chooses. `fair` asks for it per arm, on held-out runs; until then it is reported as a departure."""
