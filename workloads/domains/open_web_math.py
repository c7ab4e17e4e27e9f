"""Domain `open_web_math`: mathematical pages of Common Crawl with their LaTeX (arXiv 2310.06786; licence ODC-BY 1.0).

6,315,233 documents, 14.7B tokens by the authors' count, 56,651,995,057 bytes with all columns (the card's
dataset_info), 27.4 GB packed in 114 parquet files. Fields: url, text, date, metadata. No filter.
"""

from __future__ import annotations

from sweeps.language.text_size import TextSize, stated
from workloads.data.hub_domain import CHOSEN_BY, HubScience, Revision, hub_domain


class OpenWebMathScience(HubScience):
    """open-web-math/open-web-math."""

    repository: str = "open-web-math/open-web-math"
    revision: Revision = "fde8ef8de2300f5e778f56261843dab89f230815"
    files: tuple[str, ...] = ("data/train-*.parquet",)
    licence: str = "odc-by"


PLUGIN = hub_domain(OpenWebMathScience, size=stated(TextSize(
    bytes=56_651_995_057, documents=6_315_233, tokens=14_700_000_000, counted="by its authors (arXiv 2310.06786)"),
    *CHOSEN_BY))
