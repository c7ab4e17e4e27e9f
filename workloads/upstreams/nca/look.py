"""What a block of a bank on disk holds, for `show bank`: its record, checked against its rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweeps.errors import RecordError
from sweeps.language.stage import section
from workloads.upstreams.nca.complexity import Band
from workloads.upstreams.nca.open_bank import open_bank
from workloads.upstreams.nca.realised import kernel_digests
from workloads.upstreams.nca.science import NcaBankScience


@dataclass(frozen=True, kw_only=True)
class Held:
    """A block of accepted rules."""

    seed: int
    stream: str
    first: int
    count: int
    fields: Mapping[str, Any]
    """Every field that decides the rules."""
    changed: Mapping[str, Any]
    """Those that differ from their defaults, by dotted name."""
    band: str
    low: float
    """Limit of the band in percent of its scale; `high` alike."""
    high: float
    kernels_sha256: str
    scores: Mapping[str, float]
    """As `realised.account` states them."""
    accepted: tuple[int, ...]
    """Histogram of the accepted scores, of bins from 0 to 100 percent of the scale."""
    realised: tuple[int, ...]
    """That of the scores of training sequences."""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def look(folder: Path) -> Held:
    """Return what the block in `folder` holds.

    Raises:
        RecordError: a file is damaged or belongs to something else, or the block has no record (an older release).
    """
    try:
        header = json.loads((folder / "bank.json").read_text(encoding="utf-8"))
        bank = NcaBankScience.model_validate(header["bank"])
        [rules] = open_bank([folder], bank, header["stream"]).blocks
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise RecordError(f"{folder}/bank.json is no bank of NCA rules: {error}") from error
    try:
        record = header["record"]
        recorded, histograms = record["kernels_sha256"], record["histograms"]
        band = Band.of(bank)
        held = Held(
            seed=header["seed"], stream=header["stream"], first=header["first"], count=header["count"],
            fields=header["bank"], changed=_dotted(section(bank).changed), low=100 * band.low, high=100 * band.high,
            band=f"{bank.complexity.band} % {bank.complexity.scale}", kernels_sha256=recorded,
            scores=record["scores"], accepted=tuple(histograms["accepted"]), realised=tuple(histograms["realised"]),
        )
    except (KeyError, TypeError) as error:
        raise RecordError(f"{folder}/bank.json lacks {error}: an older release made it; a sweep that needs these rules "
                          "makes them anew") from error
    found = hashlib.sha256(b"".join(kernel_digests(rules))).hexdigest()
    if found != recorded:
        raise RecordError(f"{folder}: the kernels have the SHA-256 {found[:16]}..., not {recorded[:16]}...: "
                          "the files were changed or are of another bank")
    return held


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
