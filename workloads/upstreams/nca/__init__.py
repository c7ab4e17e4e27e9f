"""Upstream `nca`: trajectories of random neural cellular automata (arXiv 2603.10055). Light: fields only.

A rule is a random network: x one-hot on a torus of n states, logits = W3 relu(W2 (W1 * x)) with a 3x3 convolution W1
and maps W2, W3 of each cell; the next state is drawn from Categorical(logits / temperature), at 0 the argmax. A
sequence is one rollout of one rule (`rollout.py` says it to the bit): frames of `[start]`, patches row by row,
`[end]`, a patch of p x p cells being the token sum of cell_j n^j, j row-major. n^(p^2) + 2 token ids; tokens of N
sequences: N times their length, exactly. The first frame is no target, delimiters are none (`delimiter_loss`).

Loss floor: given rule and frame before, cells are independent, so a patch costs the sum of its cells' entropies
(`oracle.expected_nats`; 0 at temperature 0, and at most 0.003 nats a token at 1e-4 in docs/results/upstreams.md).
What it costs to find the rule is not known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sweeps.language.plugins import Survey, Upstream
from workloads.upstreams.nca.science import (
    NcaBankScience,
    NcaScience,
    bank_fields,
    parse_band,
    rules_needed,
)

BANK_IMPLEMENTATION = "workloads.upstreams.nca.bank:make_bank"
FRAMES_IMPLEMENTATION = "workloads.upstreams.nca.tokens:frames_of"
SMALL = {"states": 4, "grid.height": 8, "grid.width": 8}
PROTOCOLS = {
    "release": {
        "pad_channels": True, "temperature": 1e-4, "initial_grid": "categorical", "rules.unique": 16_000,
        "delimiter_loss": True, "complexity.scale": "raw", "complexity.band": "50-100", "complexity.trials": 1,
    },
    "paper": {
        "pad_channels": False, "temperature": 1e-3, "initial_grid": "uniform", "rules.unique": 0,
        "delimiter_loss": False, "complexity.scale": "raw", "complexity.band": "50-100", "complexity.trials": 1,
    },
    "fair": {},
}
SCALES = {"tiny": SMALL, "1m": SMALL}


def vocabulary(science: NcaBankScience) -> int:
    """Return the number of token ids."""
    return science.vocabulary


def describe(science: NcaBankScience) -> str:
    """Return the raw band behind a normalized one, so that tables can be laid beside the paper's."""
    if science.complexity.scale == "raw":
        return ""
    from workloads.upstreams.nca.complexity import ceiling

    low, high = (part * ceiling(bank_fields(science)) for part in parse_band(science.complexity.band))
    return f"raw {low:.0f}-{high:.0f} %"


def pilot(science: NcaBankScience) -> list[str]:
    """Return why no rules can be found for `science`; see `feasibility.reasons`."""
    from workloads.upstreams.nca.feasibility import reasons

    return reasons(bank_fields(science))


def survey(science: NcaBankScience) -> Survey:
    """Return what the pilot measured of random rules; see `feasibility.survey`."""
    from workloads.upstreams.nca.feasibility import survey as measured

    return measured(bank_fields(science))


def frame_tokens(science: NcaBankScience) -> int:
    """Return the tokens of a frame with its two delimiters."""
    return science.patches + 2


PLUGIN = Upstream(
    science=NcaScience,
    revision=1,
    implementation="workloads.upstreams.nca.source:make_source",
    protocols=PROTOCOLS,
    scales=SCALES,
    axes={"complexity": "complexity.band"},
    vocabulary=vocabulary,
    bank=bank_fields,
    bank_science=NcaBankScience,
    bank_owner="nca",
    bank_implementation=BANK_IMPLEMENTATION,
    rules_needed=rules_needed,
    describe=describe,
    pilot=pilot,
    survey=survey,
    frame_tokens=frame_tokens,
    frames_implementation=FRAMES_IMPLEMENTATION,
)


NO_BANK: dict[str, Any] = {
    "bank": None, "bank_owner": "", "bank_implementation": "", "rules_needed": None, "pilot": None, "survey": None,
}
"""Of a control that reads no rules of its own."""


def control(science: type[NcaScience], implementation: str, **changes: Any) -> Upstream:
    """Return a control of `nca`: its fields, banks and frames, but for `changes`. Its band is a field, no axis."""
    return replace(PLUGIN, science=science, revision=1, implementation=implementation, control=True, inherits="nca",
                   axes={}, bank_science=None, **changes)
