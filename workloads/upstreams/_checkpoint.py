"""A Llama checkpoint on disk: what its headers say, whether it fits, its weights. Light until weights are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.errors import EnvironmentError_, UsageError
from sweeps.language.science import ModelScience
from workloads.data.digests import digest_of
from workloads.upstreams.checkpoint import CheckpointScience

if TYPE_CHECKING:
    import torch

    from workloads.contract import Brought, Remote
    from workloads.data.hub import Dataset

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
WANTED = (CONFIG, WEIGHTS, INDEX, "model-*.safetensors")
"""What of a repository is brought here."""
EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
DERIVED = "rotary_emb.inv_freq"
"""End of the names of buffers that old checkpoints hold and that follow from the configuration."""
KINDS = ("F32", "BF16", "F16")
"""Number formats that fp32 holds exactly."""
MAX_HEADER_BYTES = 100_000_000
"""The limit of the format."""


def files_of(science: CheckpointScience) -> dict[str, Path] | None:
    """Return name -> path of the checkpoint's files; None where they are still to be brought.

    Raises:
        UsageError: the folder is no checkpoint.
        EnvironmentError_: it was brought here, and is damaged.
    """
    if science.repository:
        dataset = _dataset(science)
        if not dataset.complete:
            return None
        here = {file.name: file.path for file in dataset.files()}
    else:
        folder = Path(science.path).expanduser()
        here = {p.name: p for pattern in WANTED for p in sorted(folder.glob(pattern)) if p.is_file()}
        if not here:
            raise UsageError(f"{folder} holds no checkpoint: no {CONFIG} and no {WEIGHTS}; give the folder of one that "
                             "was saved with save_pretrained, or `artifacts` of a stage of this project")
    for name in (CONFIG, *_weight_files(here)):
        if name not in here:
            raise UsageError(f"{describe(science)} lacks {name}")
    return {name: here[name] for name in (CONFIG, *_weight_files(here))}


def describe(science: CheckpointScience) -> str:
    """Return where it lies, for messages."""
    return science.path or f"{science.repository}@{science.revision}"


def _weight_files(here: Mapping[str, Path]) -> list[str]:
    """Return the names of the files that hold the weights: those of the index, else the one file."""
    if INDEX not in here:
        return [WEIGHTS]
    return [INDEX, *sorted(set(_json(here[INDEX])["weight_map"].values()))]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds a {type(found).__name__} where an object was expected")
    return found


def identity(science: CheckpointScience) -> Mapping[str, str | None]:
    """Return the repository's commit, or one SHA-256 over names and contents. Large files are read once.

    Raises:
        UsageError: the folder is no checkpoint.
    """
    if science.repository:
        return {science.repository: science.revision}
    digest = hashlib.sha256()
    for name, path in sorted((files_of(science) or {}).items()):
        digest.update(f"{name}\0{digest_of(path)}\n".encode())
    return {"checkpoint": digest.hexdigest()}


def misfits(science: CheckpointScience, model: ModelScience) -> list[str]:
    """Return why the checkpoint cannot be the body of `model`, by the names of the fields and tensors that differ.

    Reads configuration and headers alone. Nothing where it is still to be brought here.
    """
    try:
        files = files_of(science)
        if files is None:
            return []
        config = _json(files[CONFIG])
        wrong = [f"{CONFIG} says {name} {theirs!r}, {ours}"
                 for name, theirs, fits, ours in _compared(config, science, model) if not fits]
        return wrong or list(_misshapen(_tensors(files), body_shapes(model)))
    except (UsageError, EnvironmentError_) as error:
        return [str(error)]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        return [f"{describe(science)} cannot be read ({type(error).__name__}: {error})"]


def _compared(config: Mapping[str, Any], science: CheckpointScience, model: ModelScience
              ) -> Iterator[tuple[str, Any, bool, str]]:
    """Yield name, value, whether it fits and what it is here, of what decides the body's function.

    What a configuration leaves out has the value that transformers' LlamaConfig gives it.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    heads = config.get("num_attention_heads", 32)
    kind = config.get("model_type")
    yield "model_type", kind, kind == "llama", "and only llama can be the body"
    for name, default, key in (
        ("num_hidden_layers", 32, "layers"), ("hidden_size", 4096, "width"), ("intermediate_size", 11008, "mlp"),
        ("num_attention_heads", 32, "heads"), ("rms_norm_eps", 1e-6, "norm_epsilon"),
    ):
        theirs, ours = config.get(name, default), getattr(model, key)
        yield name, theirs, theirs == ours, f"model.{key} is {ours}"
    base = rope.get("rope_theta", config.get("rope_theta", 10_000.0))
    yield "rope_theta", base, base == model.rope_base, f"model.rope_base is {model.rope_base}"
    size = config.get("vocab_size", 32_000)
    yield "vocab_size", size, size == science.vocabulary, f"its field `vocabulary` {science.vocabulary}"
    for name, theirs, here in (
        ("rope_type", rope.get("rope_type", rope.get("type", "default")), "default"),
        ("num_key_value_heads", config.get("num_key_value_heads") or heads, heads),
        ("head_dim", config.get("head_dim") or model.width // model.heads, model.width // model.heads),
        ("hidden_act", config.get("hidden_act", "silu"), "silu"),
        ("attention_bias", config.get("attention_bias", False), False),
        ("mlp_bias", config.get("mlp_bias", False), False),
    ):
        yield name, theirs, theirs == here, f"and this model can only have {here!r}"


def body_shapes(model: ModelScience) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of the body, by its Hugging Face name."""
    d, m = model.width, model.mlp
    layer: dict[str, tuple[int, ...]] = {
        **{f"self_attn.{part}_proj.weight": (d, d) for part in "qkvo"},
        "mlp.gate_proj.weight": (m, d), "mlp.up_proj.weight": (m, d), "mlp.down_proj.weight": (d, m),
        "input_layernorm.weight": (d,), "post_attention_layernorm.weight": (d,),
    }
    shapes = {f"model.layers.{n}.{name}": shape for n in range(model.layers) for name, shape in layer.items()}
    return {**shapes, "model.norm.weight": (d,)}


def _misshapen(tensors: Mapping[str, Mapping[str, Any]], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    for name, shape in shapes.items():
        if name not in tensors:
            yield f"the tensor {name} is missing"
        elif tuple(tensors[name]["shape"]) != shape:
            yield f"the tensor {name} has shape {tuple(tensors[name]['shape'])}, the model's is {shape}"
        elif tensors[name]["dtype"] not in KINDS:
            yield f"the tensor {name} is of {tensors[name]['dtype']}; {', '.join(KINDS)} can be read exactly"
    for name in tensors:
        if name not in shapes and name not in EMBEDDINGS and not name.endswith(DERIVED):
            yield f"the tensor {name} is not part of the model"


def _tensors(files: Mapping[str, Path]) -> dict[str, Mapping[str, Any]]:
    """Return name -> {shape, dtype} of all tensors, from the headers of the safetensors files."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in (p for name, p in files.items() if name.endswith(".safetensors")):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            text = file.read(size) if size <= MAX_HEADER_BYTES else b""
            if len(text) != size or path.stat().st_size <= 8:
                raise UsageError(f"{path} is no safetensors file, or was copied in part")
            header = json.loads(text)
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        if path.stat().st_size != 8 + size + max(ends, default=0):
            raise UsageError(f"{path} has {path.stat().st_size:,} bytes where its header says "
                             f"{8 + size + max(ends, default=0):,}; it was copied in part: bring it again")
        found |= {name: tensor for name, tensor in header.items() if name != "__metadata__"}
    return found


def read_body(science: CheckpointScience, model: ModelScience) -> tuple[dict[str, torch.Tensor], str]:
    """Return the body's weights in fp32 by name, and the text of its configuration. Heavy.

    Raises:
        EnvironmentError_: it was not brought here, or what is here cannot be read.
        UsageError: it does not fit the model; the message names what differs.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    if files_of(science) is None and science.repository:
        _dataset(science).bring()
    wrong = misfits(science, model)
    if wrong:
        raise UsageError(f"{describe(science)} cannot be the body: {'; '.join(wrong)}")
    files = files_of(science) or {}
    wanted = body_shapes(model)
    found: dict[str, torch.Tensor] = {}
    for path in (p for name, p in files.items() if name.endswith(".safetensors")):
        try:
            with safe_open(str(path), framework="pt") as file:
                found |= {name: file.get_tensor(name).to(torch.float32) for name in wanted.keys() & set(file.keys())}
        except SafetensorError as error:
            raise EnvironmentError_(f"{path} cannot be read ({error}); bring it again") from error
    endless = [name for name, tensor in found.items() if not bool(torch.isfinite(tensor).all())]
    if endless:
        raise UsageError(f"{describe(science)}: {endless[0]} holds numbers that are not finite")
    return found, files[CONFIG].read_text(encoding="utf-8")


@dataclass(kw_only=True)
class Here:
    """What lies in a folder of this machine: nothing is to be brought. A `workloads.contract.Remote`."""

    label: str
    place: Path
    complete: bool = True

    def missing_bytes(self) -> int:
        """Nothing."""
        return 0

    def bring(self, report: Callable[[Brought], None] = lambda _: None) -> None:
        """Do nothing."""


def remote(science: CheckpointScience) -> Remote:
    """Return what brings its files here; `sweeps.language.plugins.Upstream.fetch`."""
    if science.repository:
        return _dataset(science)
    return Here(label=science.path, place=Path(science.path).expanduser())


def _dataset(science: CheckpointScience) -> Dataset:
    from workloads.data.hub import Dataset
    from workloads.data.hub_domain import HubScience

    wanted = HubScience(repository=science.repository, revision=science.revision or "", files=WANTED)
    return Dataset(wanted, kind="model")
