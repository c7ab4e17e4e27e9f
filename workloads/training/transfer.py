"""From a pre-pre-trained model to the start of pre-training, and weights on disk.

Everything but the input and output embeddings is carried over, by name; those two keep the fresh values that
`build_model` drew by (seed, name), which are the same in every arm. Where `transfer.embeddings` is `keep` they are
carried over as well (`load_weights`). Of a run that is there for its norms, the norms alone are (`rescale_body`).
Nothing is skipped silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sweeps.errors import RecordError
from workloads.training.model import EMBEDDINGS

WEIGHTS = "model.safetensors"
"""File of an artifact folder: the fp32 weights under their Hugging Face names."""
CONFIG = "config.json"


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


def transfer_body(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Put every tensor of `weights` but the embeddings into `model`.

    Raises:
        RecordError: a body tensor is missing, unknown or has another shape; the message lists them all.
    """
    own = {k: p for k, p in model.named_parameters() if k not in EMBEDDINGS}
    given = {k: v for k, v in weights.items() if k not in EMBEDDINGS}
    _check(own, given)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(given[name])


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
                parameter.mul_((weights[name].double().norm() / parameter.double().norm()).to(parameter.dtype))


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
