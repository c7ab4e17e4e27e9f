"""Made-up rows and scores of a stage: pure functions of its spec, shaped like real ones. They mean nothing."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

from sweeps.language.stage import StageSpec
from sweeps.store.files import to_json
from sweeps.store.records import Row

SPREAD = 0.2
"""Width of the differences between runs, nats per token."""
UPSTREAM_ROWS = 10
"""Rows of a pre-pre-training or fine-tuning stage."""
BITS = 1.4427 / 3.5
"""Bits per byte for one nat per token, at 3.5 bytes per token."""


def rows(spec: StageSpec, start_tokens: int) -> Iterator[Row]:
    """Yield the rows of a stage that continues at `start_tokens`."""
    if spec.kind == "pretrain":
        yield from _pretrain(spec, start_tokens)
    elif spec.kind in ("prepretrain", "finetune"):
        end, base = end_tokens(spec), level(spec)
        for k in range(1, UPSTREAM_ROWS + 1):
            tokens = start_tokens + (end - start_tokens) * k // UPSTREAM_ROWS
            yield Row(tokens=tokens, kind="train", values={"loss": loss(base, tokens), "lr": 1e-3})
    elif spec.kind == "rules":
        count = float(spec.sections["block"].values["count"])
        yield Row(tokens=0, kind="progress", values={"done": count, "of": count})


def _pretrain(spec: StageSpec, start_tokens: int) -> Iterator[Row]:
    end, base = end_tokens(spec), level(spec)
    segment = spec.sections["segment"].values
    if segment.get("decay_from") is None:
        every = max(int(spec.sections["validation"].values["every_tokens"]), 1)
        for tokens in range(start_tokens // every * every + every, end + 1, every):
            yield _measured("validation", tokens, loss(base, tokens))
    if segment.get("decay_from") is not None or segment.get("horizon_tokens") is not None:
        yield _measured("end", end, loss(base, end) - 0.1)


def _measured(kind: str, tokens: int, value: float) -> Row:
    return Row(tokens=tokens, kind=kind, values={"loss": value, "bits_per_byte": value * BITS})


def end_tokens(spec: StageSpec) -> int:
    """Return the token count that a training stage reaches."""
    return int(spec.sections["segment"].values["end_tokens"])


def level(spec: StageSpec) -> float:
    """Return the loss that a training run tends to: the same along a trunk and its branches, nats per token."""
    run: dict[str, Any] = {
        "sections": {k: s.values for k, s in spec.sections.items() if k != "segment"},
        "inputs": [i.fingerprint for i in spec.inputs if i.role not in ("trunk", "bank")],
    }
    return 2.0 + SPREAD * fraction(hashlib.sha256(to_json(run).encode()).hexdigest())


def loss(base: float, tokens: int) -> float:
    """Return a loss that falls with tokens towards `base`, nats per token."""
    return base + 5.0 / math.pow(1.0 + tokens / 1_000, 0.3)


def fraction(digest: str) -> float:
    """Return a number in [0, 1) from a hexadecimal digest."""
    return int(digest[:12], 16) / 16**12


def scores(spec: StageSpec, fingerprint: str) -> dict[str, float]:
    """Return the scores of a stage."""
    u = fraction(fingerprint)
    if spec.kind == "rules":
        return {"accepted": float(spec.sections["block"].values["count"]), "acceptance": 0.2 + 0.6 * u}
    if spec.kind in ("pretrain", "prepretrain", "finetune"):
        return {"loss": loss(level(spec), end_tokens(spec))}
    found: dict[str, float] = {}
    for name in spec.sections:
        family, _, task = name.partition(".")
        if family == "task":
            found |= {f"{task}.{k}": v for k, v in _task(spec, fingerprint, task).items()}
    return found


def _task(spec: StageSpec, fingerprint: str, task: str) -> dict[str, float]:
    u = fraction(fingerprint)
    if "scoring" in spec.sections:
        return {"items": 100.0, "not_evaluable": 0.0, "truncated": 0.0, "touched": 0.0, "all.answer_bits": 4.0 - u,
                "all.answer_bits.chance": 8.0, "all.cloze": 0.25 + 0.1 * u, "all.cloze.chance": 0.25}
    if task == "upstream_gate":
        margin = 0.5 - SPREAD * u
        return {"loss": 1.2 - margin, "uniform_loss": 1.6, "unigram_loss": 1.4, "copy_loss": 1.2, "ngram_loss": 1.3,
                "context_loss": 1.3, "margin": margin, "margin_se": 0.01, "sequences": 32.0, "learned": 1.0}
    if task == "domain_loss":
        domains = [i.role.partition(":")[2] for i in spec.inputs if i.role.startswith("corpus:")]
        values = {d: 3.0 + fraction(hashlib.sha256(f"{fingerprint}/{d}".encode()).hexdigest()) for d in domains}
        losses = {f"{d}.loss": v for d, v in values.items()}
        nats = {"": values, ".chance": dict.fromkeys(domains, 9.0), ".unigram": dict.fromkeys(domains, 6.5)}
        return losses | {f"{d}.bits_per_byte{of}": v * BITS for of, found in nats.items() for d, v in found.items()}
    if task == "copying":
        gain = 0.5 * u
        return {"difference": gain, "first_loss": 6.0, "second_loss": 6.0 - gain, "accuracy": 0.3 * u, "chance": 0.001}
    return {"score": u}
