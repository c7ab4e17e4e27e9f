"""From a pre-pre-trained model to the start of pre-training, and weights on disk.

Each tensor is carried over or keeps the fresh values that `build_model` drew by (seed, name), which are the same in
every arm: `transfer.*` says which, by component and layer (`carried`); by default all but the input and output
embeddings. Of a run that is there for its norms, the norms alone are (`rescale_body`). Nothing is skipped silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sweeps.errors import RecordError
from sweeps.language.science import TransferScience
from workloads.training.model import EMBEDDINGS, INPUT

WEIGHTS = "model.safetensors"
"""File of an artifact folder: the fp32 weights under their Hugging Face names."""
CONFIG = "config.json"
FINAL_NORM = "model.norm.weight"
"""The norm after the last layer."""
_IN_LAYER = re.compile(r"model\.layers\.(\d+)\.(self_attn|mlp|input_layernorm|post_attention_layernorm)\..+")
_COMPONENTS = {"self_attn": "attention", "mlp": "mlp", "input_layernorm": "norm", "post_attention_layernorm": "norm"}
"""Module of a layer -> component."""


def write_weights(folder: Path, weights: Mapping[str, torch.Tensor], config_json: str) -> None:
    """Write `model.safetensors` and `config.json` into an artifact folder."""
    save_file({k: v.contiguous() for k, v in weights.items()}, str(folder / WEIGHTS), metadata={"format": "pt"})
    (folder / CONFIG).write_text(config_json, encoding="utf-8")


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of an artifact folder.

    Raises:
        RecordError: the file is missing or damaged.
    """
    path = folder / WEIGHTS
    try:
        loaded: dict[str, torch.Tensor] = load_file(str(path))
    except (FileNotFoundError, SafetensorError) as error:
        raise RecordError(f"{path} cannot be read ({error}); the stage that made it must run again") from error
    return loaded


def carried(name: str, science: TransferScience) -> bool:
    """Return whether a tensor is carried over, rather than drawn anew.

    Raises:
        RecordError: the tensor belongs to no component.
    """
    if name in EMBEDDINGS:
        as_embeddings = name == INPUT or science.head == "as_embeddings"
        return (science.embeddings if as_embeddings else science.head) == "keep"
    component, layer = _place(name)
    return not any(r.component == component and (r.layers is None or layer in r.layers) for r in science.reinit)


def _place(name: str) -> tuple[str, int | None]:
    """Return a body tensor's component and layer; the norm after the last layer has none."""
    if name == FINAL_NORM:
        return "norm", None
    match = _IN_LAYER.fullmatch(name)
    if match is None:
        raise RecordError(f"{name} belongs to no component of the body: attention, mlp, norm")
    return _COMPONENTS[match[2]], int(match[1])


def carry_over(model: Any, weights: Mapping[str, torch.Tensor], science: TransferScience) -> None:
    """Put every tensor of `weights` that `science` carries over into `model`; the others stay as they were drawn.

    Raises:
        RecordError: a tensor of the body, or an embedding to be carried, is missing, unknown or has another shape; the
            message lists them all, and nothing is changed.
    """
    def meant(name: str) -> bool:
        return name not in EMBEDDINGS or carried(name, science)

    own = {k: p for k, p in model.named_parameters() if meant(k)}
    _check(own, {k: v for k, v in weights.items() if meant(k)})
    kept = {k: p for k, p in own.items() if carried(k, science)}
    with torch.no_grad():
        for name, parameter in kept.items():
            norm = parameter.double().norm() if science.rescale and parameter.ndim > 1 else None
            parameter.copy_(weights[name])
            if norm is not None:
                _set_norm(parameter, norm)


def _set_norm(parameter: torch.Tensor, norm: torch.Tensor) -> None:
    """W <- W norm / |W|, the sum in float64."""
    parameter.mul_((norm / parameter.double().norm()).to(parameter.dtype))


def rescale_body(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Give every matrix of the body the Frobenius norm of the tensor of its name in `weights`; nothing else changes.

    The control `init_rescaled`: W <- W |W'| / |W|, sums in float64. Vectors (the gains of RMSNorm) and embeddings stay
    as they were drawn.

    Raises:
        RecordError: a body tensor is missing, unknown or has another shape; the message lists them all.
    """
    own = {k: p for k, p in model.named_parameters() if k not in EMBEDDINGS}
    _check(own, {k: v for k, v in weights.items() if k not in EMBEDDINGS})
    with torch.no_grad():
        for name, parameter in own.items():
            if parameter.ndim > 1:
                _set_norm(parameter, weights[name].double().norm())


def load_weights(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Put all of `weights` into `model`, embeddings included.

    Raises:
        RecordError: a tensor is missing, unknown or has another shape.
    """
    own = dict(model.named_parameters())
    _check(own, weights)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def _check(own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> None:
    wrong = [f"{k} is missing" for k in own if k not in given]
    wrong += [f"{k} is not part of the model" for k in given if k not in own]
    wrong += [
        f"{k} has shape {tuple(given[k].shape)}, the model's is {tuple(p.shape)}"
        for k, p in own.items() if k in given and given[k].shape != p.shape
    ]
    if wrong:
        raise RecordError("the weights do not fit the model: " + "; ".join(wrong))
