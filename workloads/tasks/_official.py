"""Published tasks, read from files in their official format: a folder of yours, or a pinned revision of the Hub.

Checked by the number of items and, where `sha256` is given, by one SHA-256 over all items as they are asked. Nothing is
shipped: the texts have licences of their own. Light until it reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from sweeps.errors import UsageError
from sweeps.language.plugins import ASIDE, Science
from sweeps.language.science import Positive
from workloads.data.digests import digest_of
from workloads.data.file_domain import absolute, files_of
from workloads.data.hub_domain import HubScience, Revision
from workloads.data.rows import DataFile


class PinnedScience(Science):
    """What a task that is read from elsewhere must be."""

    count: Positive | None = None
    """Items that it must have; None: not known."""
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Of all items, as `orchestrator prefetch FILE` says it; empty: not compared."""


class OfficialScience(PinnedScience):
    """Where a published task is read from."""

    paths: Annotated[tuple[str, ...], BeforeValidator(absolute), Field(json_schema_extra=dict(ASIDE))] = ()
    """Its files: globs, absolute or with ~. What they hold is part of the identity, where they lie is not."""
    repository: str = ""
    """Dataset of the Hub, where no paths are given."""
    revision: Revision | None = None
    """Commit of that dataset; branches and tags move, so there is no default."""
    files: tuple[str, ...] = ()
    """Globs in that dataset."""

    @model_validator(mode="after")
    def _somewhere(self) -> OfficialScience:
        if bool(self.paths) == (self.revision is not None):
            raise ValueError("give either paths to its files, or the revision (a commit) of its dataset on the Hub")
        if self.revision is not None and not self.repository:
            raise ValueError("a revision is one of a dataset; give its repository too")
        return self

    def hub(self) -> HubScience:
        """Return the dataset, in the words that `workloads.data.hub` has."""
        assert self.revision is not None
        return HubScience(repository=self.repository, revision=self.revision, files=self.files)


def identity(science: OfficialScience) -> Mapping[str, str | None]:
    """Return repository -> commit, or one SHA-256 over the files' names and contents.

    Raises:
        UsageError: a path leads to no file.
    """
    if not science.paths:
        return {science.repository: science.revision}
    digest = hashlib.sha256()
    for file in files_of(science.paths):
        digest.update(f"{file.name}\0{digest_of(file.path)}\n".encode(errors="surrogateescape"))
    return {"files": digest.hexdigest()}


def fetch(science: OfficialScience) -> Any:
    """Return the dataset on the Hub; `sweeps.language.plugins.ItemTask.fetch`."""
    from workloads.data.hub import dataset

    return dataset(science.hub())


def files(science: OfficialScience) -> Iterator[DataFile]:
    """Yield the task's files, brought here first where they lie on the Hub.

    Raises:
        UsageError: a path leads to no file.
        EnvironmentError_: they cannot be brought.
    """
    if science.paths:
        yield from files_of(science.paths)
        return
    remote = fetch(science)
    remote.bring()
    yield from (DataFile(name=f.name, path=f.path) for f in remote.files())


def verified(task: str, items: list[Any], science: PinnedScience) -> list[Any]:
    """Return the items, if they are those that are asked for.

    Raises:
        UsageError: their number or their SHA-256 is another.
    """
    from workloads.downstream.items import digest

    if science.count is not None and len(items) != science.count:
        raise UsageError(f"{task} has {len(items)} items here, {task}.count says {science.count}: not the whole task, "
                         "or another split; nothing is scored on it")
    found = digest(items)
    if science.sha256 and found != science.sha256:
        raise UsageError(f"{task}: the items' SHA-256 is {found}, {task}.sha256 says {science.sha256}: other items "
                         "than those; nothing is scored on them")
    return items
