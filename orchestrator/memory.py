"""How much memory a job asks for. An estimate on the safe side: a job that uses more than it asked for is killed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from orchestrator import texts
from orchestrator.clusters import profile
from orchestrator.plan import Planned
from sweeps.language.graph import Node
from sweeps.language.science import EngineScience, ModelScience, OptimScience
from sweeps.language.stage import AUTO

BASE_MB = 1_000
"""A process that has imported torch, deepspeed and transformers and trains a model of next to no size: 605 MB measured
with torch for CPUs; CUDA's libraries take more."""
FLOOR_MB = 2_000
"""What any job gets: stages that do not train read short texts and compile kernels."""
BYTES_PER_PARAMETER = 24
"""fp32 weights, gradient and Adam's two moments (16), a second copy of weights and gradient in mixed precision (4), and
the buffers that a checkpoint is written through (4). ZeRO spreads some of it over the ranks; that is not counted on."""
COPIED_PER_PARAMETER = 16
"""What a checkpoint holds, while it is written from a copy: weights, master weights and two moments."""
WIDTHS, MLP_WIDTHS, LOGITS = 16, 6, 4
"""fp32 numbers that a token takes until the backward pass is over: per layer in units of the model's width (norms,
attention, residuals) and of the MLP's (gate, up, activation, product); and per entry of the vocabulary (logits, their
logarithm, the gradients of both). Chosen on CPUs: 1.06, 1.25 and 1.28 times what three models of 2 to 6 layers took."""


def process_mb(planned: Planned, node: Node) -> tuple[float, float]:
    """Return what a rank of a stage needs, MB: of host memory, and for activations (on its GPU, if it has one)."""
    sections = node.spec.sections
    if node.spec.kind == "text":
        return texts.memory_mb(node, planned.cores), 0.0
    if not node.tokens or "model" not in sections:
        return 0.0, 0.0  # the floor covers it
    model, optim = (kind.model_validate(sections[key].values)
                    for kind, key in ((ModelScience, "model"), (OptimScience, "optim")))
    assert isinstance(model, ModelScience) and isinstance(optim, OptimScience)
    matrix = node.flops_per_token / 6 - model.flops_per_token(0) / 6  # one embedding: vocabulary times width
    execution = planned.execution(node.spec.kind)
    share = max(optim.batch_sequences // execution.ranks, 1)
    tokens = execution.sequences(share) * model.sequence_length
    layer = WIDTHS * model.width + MLP_WIDTHS * model.mlp
    again = execution.activation_checkpointing  # keeps the input of each layer, and all of one layer at a time
    layers = model.layers * model.width + layer if again else model.layers * layer
    chunk = EngineScience.model_validate(sections["engine"].values).loss_chunk or tokens
    numbers = tokens * layers + min(chunk, tokens) * LOGITS * matrix / model.width
    parameters = model.body_parameters + 2 * matrix
    each = BYTES_PER_PARAMETER + (COPIED_PER_PARAMETER if execution.checkpoint_async else 0)
    return BASE_MB + each * parameters / 1e6, 4 * numbers / 1e6


def without_room(planned: Planned) -> Iterator[str]:
    """Yield the kinds of stages whose micro-batch was given and has no room on a GPU, as far as the profile tells."""
    card = profile(planned.sweep.run).get("gpu_memory_mb")
    if card is None or planned.sweep.run.micro_batch in (None, AUTO):
        return
    needs: dict[str, float] = {}
    for node in planned.graph.nodes.values():
        needs[node.spec.kind] = max(needs.get(node.spec.kind, 0.0), process_mb(planned, node)[1])
    for kind, activations in needs.items():
        if activations > card:
            yield (f"run.micro_batch {planned.sweep.run.micro_batch}: the activations of {kind} take about "
                   f"{activations:,.0f} MB, a GPU has {card:,} MB; leave it out, so that a search finds what has room")


def job_mb(planned: Planned, stages: Iterable[str]) -> tuple[int, int]:
    """Return what a job of these stages needs with all its ranks, MB: of host memory, and for activations."""
    nodes = [planned.graph.nodes[key] for key in stages]
    needs = [[planned.execution(node.spec.kind).ranks * mb for mb in process_mb(planned, node)] for node in nodes]
    host, activations = (math.ceil(max(column)) for column in zip(*needs, strict=True))
    return max(host, FLOOR_MB), activations
