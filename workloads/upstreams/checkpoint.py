"""Upstream `checkpoint`: a body that was trained elsewhere, as Hugging Face keeps it. Light: fields only.

Llama checkpoints: `config.json` and safetensors, in one file or in several with an index, in fp32, bf16 or fp16. It
trains nothing here. A stage `body` brings the weights into the store, and `transfer.*` says what of them is carried
over, as for any other upstream; embeddings never are, since its token ids are its own. What it was trained on before is
declared (`tokens`), and charged where arms are compared. There is no gate: nothing is known of its held-out data.

    fields:
      checkpoint.path: ~/bodies/nca_164m
      checkpoint.tokens: 164M
      checkpoint.vocabulary: 10002

Several in one sweep are several files such as this one, named by `plugins`; the key is the file's name:

    from sweeps.language.units import Amount
    from workloads.upstreams.checkpoint import CheckpointScience, checkpoint_upstream

    class Dyck(CheckpointScience):
        path: str = "/data/bodies/dyck"
        tokens: Amount = Amount("164M")
        vocabulary: int = 130

    PLUGIN = checkpoint_upstream(Dyck)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from sweeps.language.plugins import ASIDE, Science, Upstream
from sweeps.language.science import ModelScience, Positive
from sweeps.language.units import Amount
from workloads.data.hub_domain import Revision


def _absolute(path: str) -> str:
    if path and not path.startswith(("/", "~")):
        raise ValueError(f"{path!r} depends on where a job is started; write an absolute path or one with ~")
    return path


def _some(amount: Amount) -> Amount:
    if amount.endswith(("x", "%")):
        raise ValueError("is of nothing that is known here; write a number of tokens, such as 164M")
    return amount


class CheckpointScience(Science):
    """Which checkpoint, and what it is."""

    path: Annotated[str, AfterValidator(_absolute), Field(json_schema_extra=dict(ASIDE))] = ""
    """Folder with config.json and the safetensors. Where it lies is no part of the identity, what it holds is."""
    repository: Annotated[str, Field(pattern=r"^([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?)?$")] = ""
    """On the Hub, instead of a path: `meta-llama/Llama-3.2-1B`."""
    revision: Revision | None = None
    """Commit of the repository."""
    tokens: Annotated[Amount, AfterValidator(_some), Field(json_schema_extra=dict(ASIDE))]
    """Tokens that it was trained on before, charged in comparisons. No part of the identity: it moves no weight."""
    vocabulary: Annotated[Positive, Field(json_schema_extra=dict(ASIDE))]
    """Its token ids (`vocab_size`): they decide the FLOPs of a token before. No part of the identity either."""

    @model_validator(mode="after")
    def _one_place(self) -> CheckpointScience:
        if bool(self.path) == bool(self.repository):
            raise ValueError("write either path, a folder here, or repository, on the Hub")
        if bool(self.repository) != bool(self.revision):
            raise ValueError("repository and revision, the commit's 40 hex digits, go together")
        return self


def tokens(science: CheckpointScience) -> int:
    """Return the tokens that it was trained on."""
    return science.tokens.tokens()


def vocabulary(science: CheckpointScience) -> int:
    """Return its token ids."""
    return science.vocabulary


def describe(science: CheckpointScience) -> str:
    """Return where it comes from."""
    return f"{science.repository}@{science.revision[:12]}" if science.revision else science.path


def identity(science: CheckpointScience) -> Mapping[str, str | None]:
    """Return the repository's commit, or the SHA-256 of the files."""
    from workloads.upstreams import _checkpoint

    return _checkpoint.identity(science)


def misfits(science: CheckpointScience, model: ModelScience) -> list[str]:
    """Return why it cannot be the body of `model`, as far as it is here."""
    from workloads.upstreams import _checkpoint

    return _checkpoint.misfits(science, model)


def checkpoint_upstream(science: type[CheckpointScience], *, revision: int = 1) -> Upstream:
    """Return the upstream of the checkpoint that `science` names."""
    return Upstream(
        science=science, revision=revision, trains=False, body_tokens=tokens, vocabulary=vocabulary, describe=describe,
        identity=identity, misfits=misfits, fetch="workloads.upstreams._checkpoint:remote",
        implementation="workloads.upstreams._checkpoint:read_body",
    )


PLUGIN = checkpoint_upstream(CheckpointScience)
