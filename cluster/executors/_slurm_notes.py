"""What the Slurm executor keeps on disk about each submission, so that any later controller finds its jobs.

    <folder>/<submission>/intent.json    before sbatch: folder, number of jobs, token
    <folder>/<submission>/job.json       Slurm's id of the array, once it is known
    <folder>/<submission>/refused.json   Slurm said no, or nothing of this name was found after a long look
    <folder>/<submission>/over.json      every job of it has ended
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sweeps.store import files

INTENT, JOB, REFUSED, OVER = "intent.json", "job.json", "refused.json", "over.json"


@dataclass(kw_only=True)
class Submission:
    """A submission, as far as its notes say."""

    name: str
    folder: str
    """Of the request: list of tickets, script, logs, and what jobs note."""
    count: int
    token: str
    """Random word in the script's file name: a store made anew at the same place uses the same names again."""
    job: str | None = None
    """Slurm's id of the array; None: not known, or refused."""
    refused: bool = False

    @property
    def script(self) -> str:
        """File name of the script, which Slurm keeps with the job."""
        return f"submission.{self.token}.sh"

    @property
    def jobs(self) -> list[str]:
        """Slurm's ids of its jobs."""
        return [f"{self.job}_{index}" for index in range(self.count)] if self.job else []


def intend(notes: Path, submission: Submission) -> bool:
    """Record what is about to be submitted; False where the name was used before."""
    return _create(notes / submission.name / INTENT, {
        "folder": submission.folder, "count": submission.count, "token": submission.token})


def number(notes: Path, name: str, job: str) -> None:
    """Record Slurm's id of a submission's array."""
    _create(notes / name / JOB, {"job": job})


def refuse(notes: Path, name: str, reason: str) -> None:
    """Record that a submission has no jobs."""
    _create(notes / name / REFUSED, {"reason": reason})


def close(notes: Path, name: str) -> None:
    """Record that all jobs of a submission have ended."""
    _create(notes / name / OVER, {})


def is_over(notes: Path, name: str) -> bool:
    """Tell whether nothing of a submission can be live."""
    return any((notes / name / file).exists() for file in (OVER, REFUSED))


def load(notes: Path, name: str) -> Submission | None:
    """Return a submission; None where this executor never made one of that name."""
    try:
        raw = files.read_json(notes / name / INTENT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    found = Submission(name=name, folder=raw["folder"], count=raw["count"], token=raw["token"],
                       refused=(notes / name / REFUSED).exists())
    with suppress(FileNotFoundError):
        found.job = str(files.read_json(notes / name / JOB)["job"])
    return found


def _create(path: Path, content: dict[str, object]) -> bool:
    return files.create(path, files.to_json({"schema_version": files.SCHEMA_VERSION, **content}))
