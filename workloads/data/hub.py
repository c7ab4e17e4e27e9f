"""Datasets and models of the Hugging Face Hub in its cache: listing, bringing, finding again without a network.

    $HF_HUB_CACHE/...                      the Hub's own cache: files by repository and commit, downloads go on
    $HF_HUB_CACHE/../orchestrator/*.json   which files a domain reads, with their sizes; made when all are here

Where that list exists the network is never asked, so compute nodes need none. It is made last: what was interrupted has
none, and the next try goes on where it stopped.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from httpx2 import HTTPError  # what huggingface_hub lets through where there is no way to the Hub
from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sweeps.errors import EnvironmentError_, StorageError, UsageError
from sweeps.store import files
from sweeps.store.space import FULL, describe, see_room
from workloads.contract import Brought
from workloads.data.hub_domain import HubScience

PARALLEL = 4
"""Files under way at once."""


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of a dataset."""

    name: str
    """Path in the repository."""
    size: int
    """Bytes."""
    path: Path = Path()
    """Where it lies here."""


Report = Callable[[Brought], None]


class Dataset:
    """The files that a domain reads, at one commit; or those of a model, which must be named (`science.files`)."""

    def __init__(self, science: HubScience, *, kind: Literal["dataset", "model"] = "dataset") -> None:
        """Nothing is asked yet."""
        self.science = science
        self.kind = kind
        self.label = f"{science.repository}@{science.revision[:12]}"
        self._listed: list[HubFile] | None = None
        parts = [science.repository, science.revision, science.config, science.split, *science.files]
        parts += [kind] * (kind != "dataset")
        name = hashlib.sha256(files.to_json(parts).encode()).hexdigest()[:32]
        self._note = self.place.parent / "orchestrator" / f"{name}.json"

    @property
    def place(self) -> Path:
        """The Hub's cache: $HF_HUB_CACHE, else as HF_HOME says."""
        return Path(os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE)

    @property
    def complete(self) -> bool:
        """Whether it was brought here."""
        return self._note.exists()

    def files(self) -> list[HubFile]:
        """Return the files, all of them here.

        Raises:
            EnvironmentError_: it was not brought here, or a file of it is gone or has another size.
        """
        if not self.complete:
            raise EnvironmentError_(f"{self.label} is not in {self.place}; run `orchestrator prefetch FILE` where "
                                    "there is a network, with the same HF_HOME")
        found = []
        for stated in files.read_json(self._note)["files"]:
            here = self._here(stated["name"])
            if here is None or here.stat().st_size != stated["size"]:
                raise EnvironmentError_(
                    f"{self.label}: {stated['name']} {'is gone' if here is None else 'is not whole'} in "
                    f"{self.place}; delete {self._note} and run `orchestrator prefetch FILE` again")
            found.append(HubFile(name=stated["name"], size=stated["size"], path=here))
        return found

    def folder(self) -> Path:
        """Return the folder in which the files lie under their names in the repository; raises as `files`."""
        first = self.files()[0]
        return first.path.parents[first.name.count("/")]

    def missing_bytes(self) -> int:
        """Return what is still to be brought; raises as `missing`."""
        return sum(f.size for f in self.missing())

    def missing(self) -> list[HubFile]:
        """Return the files that are still to be brought; asks the Hub unless all are here.

        Raises:
            EnvironmentError_: the Hub cannot be asked, or refuses.
            UsageError: configuration, split or globs name nothing.
        """
        if self.complete:
            return []
        return [f for f in self._listing() if (p := self._here(f.name)) is None or p.stat().st_size != f.size]

    def bring(self, report: Report = lambda _: None) -> None:
        """Download what is missing, then note that all is here.

        Raises:
            EnvironmentError_: as `missing`; or there is too little space, said before it starts.
            StorageError: the disk filled up on the way.
        """
        if self.complete:
            return
        missing = self.missing()
        total, done = sum(f.size for f in missing), 0
        see_room(self.place, total, self.label)
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="bring") as pool:
            under_way = {pool.submit(self._bring, f): f for f in missing}
            try:
                for future in as_completed(under_way):
                    future.result()
                    done += under_way[future].size
                    report(Brought(done_bytes=done, of_bytes=total))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._note.parent.mkdir(parents=True, exist_ok=True)
        files.create(self._note, files.to_json({
            "schema_version": files.SCHEMA_VERSION, "repository": self.science.repository,
            "revision": self.science.revision,
            "files": [{"name": f.name, "size": f.size} for f in self._listing()]}))

    def _here(self, name: str) -> Path | None:
        found = try_to_load_from_cache(self.science.repository, name, cache_dir=self.place, repo_type=self.kind,
                                       revision=self.science.revision)
        return Path(found) if isinstance(found, str) and Path(found).is_file() else None

    def _bring(self, file: HubFile) -> None:
        with self._asking():
            hf_hub_download(self.science.repository, file.name, revision=self.science.revision, repo_type=self.kind,
                            cache_dir=self.place)
        here = self._here(file.name)
        if here is None or here.stat().st_size != file.size:
            raise EnvironmentError_(f"{self.label}: {file.name} came with another size than the Hub states; run the "
                                    "command again")

    def _listing(self) -> list[HubFile]:
        if self._listed is None:
            with self._asking():
                self._listed = sorted(self._list(), key=lambda f: f.name)
        return self._listed

    def _list(self) -> Iterator[HubFile]:
        """Yield what the globs match, else what `datasets` says belongs to configuration and split."""
        science = self.science
        tree = HfApi().list_repo_tree(science.repository, recursive=True, revision=science.revision,
                                      repo_type=self.kind)
        sizes = {entry.path: entry.size for entry in tree if hasattr(entry, "size")}
        wanted = set(self._of_split()) if not science.files else {
            name for name in sizes if any(fnmatch.fnmatchcase(name, glob) for glob in science.files)}
        if not wanted:
            raise UsageError(f"{self.label} has no file that matches {' or '.join(science.files)}; it has "
                             f"{', '.join(sorted(sizes)[:5])} ...")
        yield from (HubFile(name=name, size=sizes[name]) for name in wanted)

    def _of_split(self) -> Iterator[str]:
        from datasets import load_dataset_builder

        science = self.science
        try:
            builder = load_dataset_builder(science.repository, science.config or None, revision=science.revision)
        except (ValueError, FileNotFoundError) as error:  # unknown configuration; no data files that it knows
            raise UsageError(f"{self.label}: {error}; set `config`, or name `files`") from error
        by_split = builder.config.data_files or {}
        if science.split not in by_split:
            raise UsageError(f"{self.label} has no split {science.split!r}; it has {', '.join(map(str, by_split))}")
        prefix = f"hf://datasets/{science.repository}@{science.revision}/"
        yield from (str(url).removeprefix(prefix) for url in by_split[science.split])

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Say in words what the Hub or the way to it refuses.

        Raises:
            EnvironmentError_: it does.
            StorageError: the disk is full.
        """
        name = f"{self.label}:"
        try:
            yield
        except GatedRepoError as error:
            folder = "datasets/" if self.kind == "dataset" else ""
            raise EnvironmentError_(
                f"{name} its owners ask for consent: accept their conditions at https://huggingface.co/{folder}"
                f"{self.science.repository} and log in here (`hf auth login`, or HF_TOKEN)") from error
        except RevisionNotFoundError as error:
            raise UsageError(f"{name} there is no such commit") from error
        except RepositoryNotFoundError as error:
            raise UsageError(f"{name} there is no such {self.kind}, or it is private and you are not logged in "
                             "(`hf auth login`, or HF_TOKEN)") from error
        except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
            raise self._no_network(error) from error
        except EntryNotFoundError as error:
            raise UsageError(f"{name} {error}") from error
        except HfHubHTTPError as error:
            raise EnvironmentError_(f"{name} the Hub answered {error}; run the command again later") from error
        except (OSError, HTTPError) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise StorageError(describe(self.place, error.errno)) from error
            raise self._no_network(error) from error

    def _no_network(self, error: BaseException) -> EnvironmentError_:
        return EnvironmentError_(
            f"{self.label} is not (wholly) in {self.place}, and {constants.ENDPOINT} cannot be reached from here "
            f"({type(error).__name__}: {error}); run `orchestrator prefetch FILE` where there is a network")


def dataset(science: HubScience) -> Dataset:
    """Return the dataset that a domain reads; `sweeps.language.plugins.Domain.fetch`."""
    return Dataset(science)
