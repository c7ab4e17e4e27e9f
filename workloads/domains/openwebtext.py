"""Domain `openwebtext`: pages that Reddit links to, an open WebText (licence CC0-1.0 for the packaging).

8,013,769 documents, 39,769,494,896 bytes (the card's dataset_info), about 9.04B tokens of GPT-2's tokenizer (nanoGPT's
count). One field, text. No filter. The commit is one that holds it as parquet; `main` held tar archives when this was
written, which are of no known format.
"""

from __future__ import annotations

from sweeps.language.text_size import TextSize, stated
from workloads.data.hub_domain import CHOSEN_BY, HubScience, Revision, hub_domain


class OpenWebTextScience(HubScience):
    """Skylion007/openwebtext."""

    repository: str = "Skylion007/openwebtext"
    revision: Revision = "c6680bb039f28c472e44d33acb240c3068b89a82"
    files: tuple[str, ...] = ("data/train-*.parquet",)
    licence: str = "cc0-1.0"


PLUGIN = hub_domain(OpenWebTextScience, size=stated(TextSize(
    bytes=39_769_494_896, documents=8_013_769, tokens=9_040_000_000, counted="with GPT-2's tokenizer (nanoGPT)"),
    *CHOSEN_BY))
