"""Domain `c4`: the English part of C4, filtered Common Crawl of April 2019 (arXiv 1910.10683; licence ODC-BY).

1,024 files of about 320 MB packed, 364,868,892 documents, 829 GB of text (the card's dataset_info), 156B tokens (arXiv
2104.08758): far more than any budget here, so the first 32 files in order are the default, about 11.4M documents.
Fields: text, timestamp, url. No filter: the text is cleaned already.
"""

from __future__ import annotations

import fnmatch

from sweeps.language.text_size import TextSize
from workloads.data.hub_domain import HubScience, Revision, hub_domain


class C4Science(HubScience):
    """A part of allenai/c4."""

    repository: str = "allenai/c4"
    revision: Revision = "1588ec454efa1a09f29cd18ddd04fe05fc8653a2"
    files: tuple[str, ...] = ("en/c4-train.000[0-2]?-of-01024.json.gz", "en/c4-train.0003[01]-of-01024.json.gz")
    licence: str = "odc-by"


ALL = TextSize(bytes=828_589_180_707, documents=364_868_892, tokens=156_000_000_000,
               counted="with spaCy's tokenizer (arXiv 2104.08758)")
NAMES = tuple(f"en/c4-train.{n:05d}-of-01024.json.gz" for n in range(1_024))


def size(science: C4Science) -> TextSize | None:
    """Return the size of the files that are read, which are all about as large; None where others are."""
    read = sum(any(fnmatch.fnmatchcase(name, glob) for glob in science.files) for name in NAMES)
    own = all(glob.startswith("en/c4-train.") for glob in science.files)
    fields = C4Science.model_fields
    if not read or not own or any(getattr(science, f) != fields[f].default for f in ("repository", "revision")):
        return None
    return ALL.within(ALL.bytes * read // len(NAMES))


PLUGIN = hub_domain(C4Science, size=size)
