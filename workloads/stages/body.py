"""Stage `body`: a body that was trained elsewhere, checked and brought into the store. Light until it runs.

What follows reads it as it reads what a stage `prepretrain` leaves, so a checkpoint that is moved, changed or deleted
later changes no result. Costs 4 bytes of disk and memory per parameter of the body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sweeps.errors import UsageError
from sweeps.language.plugins import Science, StageKind, Upstream

if TYPE_CHECKING:
    from workloads.contract import StageContext


class BodyScience(Science):
    """No fields of its own: the upstream's say which body."""


def run(context: StageContext) -> Mapping[str, float]:
    """Leave the body's weights as an artifact; return how many there are.

    Raises:
        EnvironmentError_: it is not here, or not what the plan saw.
        UsageError: it does not fit the model.
    """
    from workloads.data.identity import check_identity
    from workloads.training.transfer import write_weights

    plugin, science = context.plugin("upstream"), context.science["upstream"]
    if not isinstance(plugin, Upstream) or plugin.body_tokens is None:
        raise UsageError("the upstream of section `upstream` brings no body (body_tokens)")
    check_identity(plugin, science, context.science["identity"])
    weights, config_json = plugin.load()(science, context.science["model"])
    write_weights(context.attempt.artifacts, weights, config_json)
    return {"parameters": float(sum(tensor.numel() for tensor in weights.values()))}


PLUGIN = StageKind(science=BodyScience, revision=1, implementation="workloads.stages.body:run")
