"""The Llama model and its initialisation, which is a pure function of (seed, tensor name).

Every tensor has its own counter-based generator (NumPy's Philox, whose numbers are the same on every processor), so the
body is identical across the arms of a seed whatever their vocabulary. Embeddings and output head are drawn under a name
that also says the purpose: otherwise the fresh embeddings of pre-training would begin with the very rows that the body
saw in pre-pre-training, and a transferred body would be favoured.

Shape suffixes: B sequences, T tokens, N = B T rows, D width, V vocabulary.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from sweeps.errors import UsageError
from sweeps.language.science import ModelScience
from workloads.training.feeds import IGNORED

INPUT = "model.embed_tokens.weight"
"""Name of the input embedding."""
OUTPUT = "lm_head.weight"
"""Name of the output embedding; absent where tied."""
EMBEDDINGS = frozenset({INPUT, OUTPUT})

PREPRETRAIN_EMBEDDING_STD = 1.0
"""Standard deviation of the input embeddings in pre-pre-training: PyTorch's N(0, 1), as in the release."""

MASKLESS = "sdpa_without_mask"
"""Name of the attention of `attend_without_mask`."""

Purpose = Literal["prepretrain", "pretrain"]


def cross_entropy_sum(logits_NV: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """Return the summed cross-entropy in nats over the labels that are targets; arithmetic in fp32."""
    return F.cross_entropy(logits_NV.float(), labels_N, ignore_index=IGNORED, reduction="sum")


def summed_loss(model: Any, tokens_BT: torch.Tensor, labels_BT: torch.Tensor, chunk: int | None) -> torch.Tensor:
    """Return a model's summed cross-entropy in nats; `chunk` as in `Llama.forward`, None: all logits at once."""
    if chunk is not None:
        return model(input_ids=tokens_BT, labels=labels_BT, chunk=chunk)  # type: ignore[no-any-return]
    return cross_entropy_sum(model(input_ids=tokens_BT).logits.flatten(0, 1), labels_BT.flatten())


def attend_without_mask(model: Any) -> None:
    """Make a model attend to the past by the kernels' own causal flag: for sequences that fill their rows.

    Left alone, transformers 5 asks the device in every forward pass whether positions begin anew inside a sequence,
    waits for the answer, and under torch.compile, which cannot wait, makes a mask that no flash kernel takes.
    """
    AttentionInterface.register(MASKLESS, sdpa_attention_forward)  # for which transformers knows no way to make a mask
    model.set_attn_implementation(MASKLESS)


def recompute_activations(model: Any) -> None:
    """Make a model compute its activations again in the backward pass instead of keeping them."""
    # the first is the name that this release of transformers has for it
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def compile_body(model: Any, *, zero_stage: int) -> None:
    """Let torch.compile make the kernels of a model's body, for calls of one shape.

    What an earlier stage of this process has compiled is forgotten, and what would fall back to other kernels without a
    word is an error: a stage's bits must not depend on what ran before it.

    Raises:
        UsageError: ZeRO 3 (its hooks gather weights inside the body), or there is no compiler.
    """
    if zero_stage == 3:
        raise UsageError("engine.compile is for ZeRO stages 0, 1 and 2; set run.zero_stage 2, or engine.compile: false")
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise UsageError(f"engine.compile needs a C++ compiler on {platform.node()}, and no {compiler!r} is there: "
                         "install one, name it in the environment variable CXX, or set engine.compile: false")
    from torch._dynamo import config as dynamo  # seconds of imports, for who compiles
    from torch._inductor import config as inductor

    torch.compiler.reset()
    dynamo.fail_on_recompile_limit_hit = True
    inductor.compile_threads = 1  # else a pool of processes, each with torch in memory
    model.model.compile(fullgraph=True, dynamic=False)


class Llama(LlamaForCausalLM):  # type: ignore[misc] # which states no types
    """Hugging Face's Llama, which can also end in its loss without ever holding the logits of all tokens."""

    def forward(
        self, input_ids: torch.Tensor, *, labels: torch.Tensor | None = None, chunk: int = 0, **given: Any
    ) -> Any:
        """Return what Hugging Face's returns, or the summed cross-entropy in nats where there are `labels`.

        Args:
            input_ids: (B, T) tokens.
            labels: (B, T) token to be predicted at each position, or `IGNORED`.
            chunk: rows whose logits are held at a time; the backward pass computes them again.
            given: for Hugging Face's.
        """
        if labels is None:
            return super().forward(input_ids=input_ids, **given)
        hidden_ND = self.model(input_ids=input_ids).last_hidden_state.flatten(0, 1)
        chunks = zip(torch.split(hidden_ND, chunk), torch.split(labels.flatten(), chunk), strict=True)
        return torch.stack([checkpoint(self._summed, *rows, use_reentrant=False) for rows in chunks]).sum()

    def _summed(self, hidden_ND: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
        return cross_entropy_sum(self.lm_head(hidden_ND), labels_N)


def build_model(science: ModelScience, vocabulary: int, *, seed: int, purpose: Purpose, embedding_std: float) -> Any:
    """Return a freshly initialised `LlamaForCausalLM` in fp32 on the CPU.

    Args:
        science: the body's shape.
        vocabulary: V, number of token ids.
        seed: trial seed; with the tensor's name the only thing that decides the body's values.
        purpose: what the embeddings are for; enters the names under which they are drawn.
        embedding_std: standard deviation of the input embedding.

    Raises:
        UsageError: the heads do not divide the width.
    """
    model = empty_model(science, vocabulary)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(initial(name, parameter.shape, science=science, seed=seed, purpose=purpose,
                                    embedding_std=embedding_std))
    return model


def empty_model(science: ModelScience, vocabulary: int) -> Any:
    """Return the model with values that mean nothing yet.

    Raises:
        UsageError: the heads do not divide the width.
    """
    if science.width % science.heads or (science.width // science.heads) % 2:
        raise UsageError(f"model.width {science.width} must be an even multiple of model.heads {science.heads}")
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=science.width, intermediate_size=science.mlp,
        num_hidden_layers=science.layers, num_attention_heads=science.heads, num_key_value_heads=science.heads,
        max_position_embeddings=science.sequence_length, tie_word_embeddings=science.tied, use_cache=False,
        attention_dropout=science.dropout, rms_norm_eps=science.norm_epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": science.rope_base},
        bos_token_id=None, eos_token_id=None,
    )
    return Llama(config)


def initial(
    name: str, shape: torch.Size, *, science: ModelScience, seed: int, purpose: Purpose, embedding_std: float
) -> torch.Tensor:
    """Return the initial values of one tensor, fp32: norms 1, matrices normal with the std of their kind."""
    if len(shape) == 1:
        return torch.ones(shape)
    std = embedding_std if name == INPUT else science.init_std
    label = f"{seed}/{purpose}/{name}" if name in EMBEDDINGS else f"{seed}/{name}"
    key = np.frombuffer(hashlib.sha256(label.encode()).digest()[:16], dtype=np.uint64)
    normal = np.random.Generator(np.random.Philox(key=key)).standard_normal(tuple(shape), dtype=np.float32)
    return torch.from_numpy(normal).mul_(std)


def parameter_groups(model: Any, weight_decay: float) -> Iterator[dict[str, Any]]:
    """Yield AdamW's groups: matrices decay, norms do not."""
    yield {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": weight_decay}
    yield {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0}
