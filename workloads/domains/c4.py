"""Domain `c4`: the English part of C4, filtered Common Crawl of April 2019 (arXiv 1910.10683; licence ODC-BY).

1,024 files of about 320 MB packed, 364,868,892 documents, 829 GB of text (the card's dataset_info): far more than any
budget here, so the first 32 files in order are the default, about 11.4M documents. Fields: text, timestamp, url. No
filter: the text is cleaned already.
"""

from __future__ import annotations

from workloads.data.hub_domain import HubScience, Revision, hub_domain


class C4Science(HubScience):
    """A part of allenai/c4."""

    repository: str = "allenai/c4"
    revision: Revision = "1588ec454efa1a09f29cd18ddd04fe05fc8653a2"
    files: tuple[str, ...] = ("en/c4-train.000[0-2]?-of-01024.json.gz", "en/c4-train.0003[01]-of-01024.json.gz")
    licence: str = "odc-by"


PLUGIN = hub_domain(C4Science)
