"""Task `harness`: multiple-choice tasks as lm-evaluation-harness defines them, or you in its format, scored here.

    fields:
      downstream.tasks: [harness]
      harness.tasks: [arc_easy, piqa]   # names of lm-eval; each is a level of its own
      harness.datasets: [allenai/ai2_arc@COMMIT, baber/piqa@COMMIT]   # what they read of the Hub (prefetch)
      harness.folder: /data/my_tasks    # or task files of your own, in lm-eval's format, with their data
      harness.shots: 5                  # lm-eval's num_fewshot

Needs the extra `harness`. Its code makes contexts, choices and shots; none of its scores is used. A definition is code
(functions, templates), run in the job as that of a plug-in, and by `prefetch`, and never when planning: name no folder
whose code you would not run. It has no training items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from sweeps.errors import EnvironmentError_, UsageError
from sweeps.language.ladder import CHOSEN
from sweeps.language.plugins import ASIDE, ItemTask
from sweeps.language.science import Positive
from workloads.data.digests import digest_of
from workloads.data.file_domain import absolute
from workloads.data.hub_domain import HubScience
from workloads.tasks._official import PinnedScience

PACKAGE = "lm-eval"


def _hub(text: str) -> str:
    repository, _, commit = text.partition("@")
    HubScience(repository=repository, revision=commit)  # which says what is wrong
    return text


def _absolute(text: str) -> str:
    if text:
        absolute(text)
    return text


class HarnessScience(PinnedScience):
    """Which definitions, and which of their documents."""

    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of tasks whose `output_type` is `multiple_choice`; those of the folder go before lm-eval's own."""
    datasets: tuple[Annotated[str, AfterValidator(_hub)], ...] = ()
    """Datasets of the Hub that their definitions name, each `REPOSITORY@COMMIT`; branches move, so there is no
    default."""
    folder: Annotated[str, AfterValidator(_absolute), Field(json_schema_extra=dict(ASIDE))] = ""
    """Of task files of your own (lm-eval's `include_path`), absolute or with ~, with what they include and read. What
    it holds is part of the identity, where it lies is not."""
    shots: Annotated[int, Field(ge=0)] | None = None
    """Solved examples, drawn as lm-eval draws them, with its default seed; None: as many as each definition says. One
    that says 0 keeps 0, as there."""
    limit: Positive | None = None
    """Documents of each task, from its first; None: all."""
    unfit: Literal["refuse", "leave_out"] = "refuse"
    """What becomes of documents that cannot be asked here: two choices alike, no or several right ones."""

    def place(self) -> Path | None:
        """Return the folder; None: there is none."""
        return Path(self.folder).expanduser().resolve() if self.folder else None

    def hub(self) -> dict[str, HubScience]:
        """Return repository -> all of its files at the commit, in the words that `workloads.data.hub` has."""
        parts = (text.partition("@") for text in self.datasets)
        return {name: HubScience(repository=name, revision=commit, files=("*",)) for name, _, commit in parts}


def identity(science: HarnessScience) -> Mapping[str, str | None]:
    """Return lm-eval's version, as its definitions are its own, each dataset's commit, and the folder's SHA-256.

    Raises:
        EnvironmentError_: lm-eval is not installed.
        UsageError: there is no such folder.
    """
    try:
        found = {PACKAGE: version(PACKAGE), **{name: at.revision for name, at in science.hub().items()}}
    except PackageNotFoundError as error:
        raise EnvironmentError_("task harness needs lm-evaluation-harness, which is not installed here: pip install -c "
                                "constraints.txt '.[harness]'") from error
    if place := science.place():
        digest, files = hashlib.sha256(), sorted(p for p in place.rglob("*") if p.is_file() and p.suffix != ".pyc")
        if not files:
            raise UsageError(f"harness.folder {place}: no such folder here, or it is empty")
        for file in files:
            digest.update(f"{file.relative_to(place)}\0{digest_of(file)}\n".encode(errors="surrogateescape"))
        found["folder"] = digest.hexdigest()
    return found


def fetch(science: HarnessScience) -> Any:
    """Return the datasets on the Hub; `sweeps.language.plugins.ItemTask.fetch`."""
    from workloads.data.hub import dataset
    from workloads.tasks._harness import Together

    return Together([dataset(part) for part in science.hub().values()])


PLUGIN = ItemTask(
    science=HarnessScience, revision=1, implementation="workloads.tasks._harness:items", identity=identity,
    count=lambda science: science.count, fetch="workloads.tasks.harness:fetch",
    elsewhere=lambda science: bool(science.datasets), rungs=CHOSEN,
)
