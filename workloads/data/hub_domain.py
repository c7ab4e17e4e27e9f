"""A domain made of a dataset of the Hugging Face Hub at one commit. Light until it reads. One of your own is a file:

    from workloads.data.hub_domain import HubScience, Revision, hub_domain

    class FineWeb(HubScience):
        repository: str = "HuggingFaceFW/fineweb"
        revision: Revision = "9bb295ddab0e05d785b879661af7260fed5140fc"
        files: tuple[str, ...] = ("sample/10BT/*.parquet",)
        licence: str = "odc-by"

    PLUGIN = hub_domain(FineWeb)

Named in the sweep file (`plugins: [fineweb.py]`), its key is `fineweb`. Identity: repository and commit, which the Hub
never changes, and the fields. `git ls-remote https://huggingface.co/datasets/REPOSITORY` tells the commits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from sweeps.language.plugins import Domain
from sweeps.language.text_size import TextSize
from workloads.data.rows import DataFile, RowDocuments, RowsScience


def _commit(text: str) -> str:
    if len(text) != 40 or not set(text) <= set("0123456789abcdef"):
        raise ValueError(f"{text!r} may mean other data tomorrow; write the commit's 40 hex digits "
                         "(git ls-remote https://huggingface.co/datasets/REPOSITORY)")
    return text


Revision = Annotated[str, AfterValidator(_commit)]
"""A commit; branches and tags move."""


class HubScience(RowsScience):
    """Which dataset, and which of its rows."""

    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$")]
    """On the Hub: `allenai/c4`."""
    revision: Revision
    """Commit of the repository."""
    config: str = ""
    """Configuration, as `datasets` knows it; empty: the default one. Of no meaning beside `files`."""
    split: str = "train"
    """Split whose files are read. Of no meaning beside `files`."""
    files: tuple[str, ...] = ()
    """Globs in the repository, for a part of a dataset or one without configurations; empty: what `datasets` says
    belongs to configuration and split."""


CHOSEN_BY = ("repository", "revision", "files")
"""The fields that say what a dataset with named files holds; the others only leave rows out."""


def hub_domain(science: type[HubScience], *, revision: int = 1,
               size: Callable[[Any], TextSize | None] | None = None) -> Domain:
    """Return the domain of the dataset that `science` names; `size`: as a domain's, by what its publishers say."""
    return Domain(science=science, revision=revision, identity=identity, fetch="workloads.data.hub:dataset",
                  implementation="workloads.data.hub_domain:read", size=size)


def read(science: HubScience) -> RowDocuments:
    """Return the documents, downloaded first where they are not in the cache.

    Raises:
        EnvironmentError_: they are not here and cannot be brought; says why and what to do.
    """
    from workloads.data.hub import dataset

    found = dataset(science)
    found.bring()
    return RowDocuments(f"{science.repository}@{science.revision[:12]}",
                        [DataFile(name=f.name, path=f.path) for f in found.files()], science)


def identity(science: HubScience) -> Mapping[str, str | None]:
    """Return repository -> commit."""
    return {science.repository: science.revision}
