"""What a stage is guessed to cost: seconds, and bytes of the store."""

from __future__ import annotations

from orchestrator import texts
from orchestrator.plan import Planned
from sweeps.language.graph import Node

WEIGHT_BYTES, CHECKPOINT_BYTES = 4, 14
"""Bytes per parameter that a training stage leaves: fp32 weights, and in each checkpoint that is kept bf16 weights,
their fp32 master copy and Adam's two moments (fp32 alone: 12 of the 14)."""
BODY_BYTES = 4
"""Bytes per parameter of a body that is brought from elsewhere."""


def seconds_guess(node: Node, flops_per_second: float, cores: int = 1) -> float:
    """Return a stage's estimated seconds on one slot of some cores; 5 where nothing is known of it."""
    fixed = {"rules": 2.0, "evaluate": 2.5}
    if node.text is not None:
        return texts.seconds(node, cores)
    if node.work:
        start = 0.3 if node.tokens else fixed["evaluate"]  # what scores loads a model, too
        return start + node.work / flops_per_second
    return fixed.get(node.spec.kind, 5.0)


def storage_bytes(planned: Planned, node: Node) -> int:
    """Return the bytes that a stage will leave: weights, the checkpoints that are kept, and rows."""
    if node.spec.kind in ("prepretrain", "pretrain", "finetune"):
        model = node.spec.sections["model"].values
        body = planned.file.body_parameters
        vocabulary = int(planned.trials[0].core["tokenizer"].vocabulary)
        run, end = planned.sweep.run, int(node.spec.sections["segment"].values["end_tokens"])
        kept = run.keep_checkpoints + sum(node.start_tokens < amount.tokens() < end for amount in run.keep_at)
        return (WEIGHT_BYTES + kept * CHECKPOINT_BYTES) * (body + 2 * vocabulary * int(model["width"])) + 20_000
    if node.spec.kind == "body":
        return BODY_BYTES * planned.file.body_parameters
    if node.text is not None:
        return texts.storage_bytes(node)
    return {"rules": 1_000_000}.get(node.spec.kind, 20_000)

