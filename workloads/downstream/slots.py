"""A key-value cache of one fixed shape, whose rows are at places of their own: what sampling and scoring stand on.

Row b holds some text; a step writes one more token into every row and returns what follows it. All tensors of a step
have the same shape whatever the rows hold, so that a row's numbers depend on nothing but its own text: places behind
its newest token are masked, and a masked key has a weight of exactly zero. A row may be given another text at any time,
so that no row waits for the longest.

A step of a small model is mostly the calls of its operations. So it is written out here for the one architecture of
this project (Llama: arXiv 2302.13971), with few and plain ones on the modules of Hugging Face's model; tests hold it
against that.

Shape suffixes: B rows, S places of a row, P places of a prompt, A further places, L layers, H heads, G heads of all
rows (B x H), D width of a head, E width of the model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from workloads.contract import Diverged


class Slots:
    """B rows of S places for one model."""

    def __init__(self, model: Any, rows: int, capacity: int) -> None:
        """Make the rows, each with one place that says nothing."""
        self._model = model
        config, weight = model.config, model.lm_head.weight
        self._heads, width = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        self._pairs_LGSD = weight.new_zeros(config.num_hidden_layers, 2, rows * self._heads, capacity, width)
        self._places_S = torch.arange(capacity, device=weight.device)
        self._starts_G = torch.arange(rows * self._heads, device=weight.device) * capacity
        self._turns_SD = [turn_1SD[0] for turn_1SD in model.model.rotary_emb(weight, self._places_S[None])]

    def begin(self, row: int, pairs_LHPD: torch.Tensor) -> None:
        """Let a row hold the text of which `prefill` has made (L, 2, H, P, D)."""
        self._pairs_LGSD[:, :, row * self._heads:(row + 1) * self._heads, :pairs_LHPD.shape[3]] = pairs_LHPD

    def step(self, tokens: Sequence[int], places: Sequence[int]) -> torch.Tensor:
        """Return the (B, V) logits after one more token in every row, written at that row's place.

        Raises:
            Diverged: they are not finite.
        """
        device, inner = self._starts_G.device, self._model.model
        places_G = torch.tensor(places, device=device).repeat_interleave(self._heads)
        newest_G = self._starts_G + places_G
        mask_G1S = torch.where(self._places_S > places_G[:, None], -torch.inf, 0.0)[:, None]
        cos_GD, sin_GD = (turn_SD[places_G] for turn_SD in self._turns_SD)
        x_BE = inner.embed_tokens(torch.tensor(tokens, device=device))
        for layer, (keys_GSD, values_GSD) in zip(inner.layers, self._pairs_LGSD, strict=True):
            attention, normed_BE = layer.self_attn, _normed(layer.input_layernorm, x_BE)
            query_GD, key_GD, value_GD = (part(normed_BE).view(len(places_G), -1) for part in (
                attention.q_proj, attention.k_proj, attention.v_proj))
            keys_GSD.flatten(0, 1).index_copy_(0, newest_G, _turned(key_GD, cos_GD, sin_GD))
            values_GSD.flatten(0, 1).index_copy_(0, newest_G, value_GD)
            weights_G1S = torch.baddbmm(mask_G1S, _turned(query_GD, cos_GD, sin_GD)[:, None], keys_GSD.mT,
                                        alpha=query_GD.shape[1]**-0.5).softmax(-1)
            x_BE = x_BE + attention.o_proj(torch.bmm(weights_G1S, values_GSD).view(x_BE.shape))
            x_BE = x_BE + layer.mlp(_normed(layer.post_attention_layernorm, x_BE))
        return _finite(self._model.lm_head(_normed(inner.norm, x_BE)))


def _normed(norm: Any, x_BE: torch.Tensor) -> torch.Tensor:
    scale_B1 = (x_BE.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
    normed_BE: torch.Tensor = x_BE * scale_B1 * norm.weight
    return normed_BE


def _turned(x_GD: torch.Tensor, cos_GD: torch.Tensor, sin_GD: torch.Tensor) -> torch.Tensor:
    """Return queries or keys turned by their places (RoPE, arXiv 2104.09864), a channel's partner half a head away."""
    left_GD, right_GD = x_GD.chunk(2, -1)
    return x_GD * cos_GD + torch.cat((-right_GD, left_GD), -1) * sin_GD


def extend(model: Any, pairs_LBHPD: torch.Tensor, tokens_BA: torch.Tensor, held_B: torch.Tensor) -> torch.Tensor:
    """Return the (B, A, V) logits of A more tokens in every row.

    Args:
        model: of Hugging Face.
        pairs_LBHPD: (L, 2, B, H, P, D), keys and values of which `prefill` has made each row's.
        tokens_BA: what follows, filled up with zeros.
        held_B: places of each row that hold its text, from the first; the others are masked.

    Raises:
        Diverged: they are not finite.
    """
    places, (rows, further) = pairs_LBHPD.shape[-2], tokens_BA.shape
    held_BAP = (torch.arange(places, device=held_B.device) < held_B[:, None])[:, None].expand(rows, further, places)
    own_BAA = tokens_BA.new_ones(further, further, dtype=torch.bool).tril().expand(rows, further, further)
    seen_BAS = torch.cat((held_BAP, own_BAA), -1)
    mask_B1AS = torch.zeros_like(seen_BAS, dtype=pairs_LBHPD.dtype).masked_fill(~seen_BAS, -torch.inf)[:, None]
    cache = DynamicCache()
    for layer, (keys_BHPD, values_BHPD) in enumerate(pairs_LBHPD):
        cache.update(keys_BHPD, values_BHPD, layer)
    at_BA = held_B[:, None] + torch.arange(further, device=held_B.device)
    logits_BAV: torch.Tensor = model(input_ids=tokens_BA, past_key_values=cache, use_cache=True, position_ids=at_BA,
                                     attention_mask=mask_B1AS).logits
    return _finite(logits_BAV)


def _finite(logits: torch.Tensor) -> torch.Tensor:
    if not all(bool(extreme.isfinite()) for extreme in logits.aminmax()):  # which pass on a NaN
        raise Diverged("the model's logits are not finite, so this arm cannot be evaluated")
    return logits


def prefill(model: Any, tokens_BP: torch.Tensor) -> torch.Tensor:
    """Return (B, L, 2, H, P, D): keys and values of B texts, each filled up with zeros on the right."""
    cache = DynamicCache()
    model(input_ids=tokens_BP, past_key_values=cache, use_cache=True, logits_to_keep=1)
    pairs_LBHPD = torch.stack([torch.stack((layer.keys, layer.values)) for layer in cache.layers])
    return pairs_LBHPD.permute(2, 0, 1, 3, 4, 5)
