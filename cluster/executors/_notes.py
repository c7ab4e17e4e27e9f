"""What the local executor keeps on disk about each job, so that any later controller finds it.

    <folder>/<submission>/<index>.json        before the start: ticket, token, logs, and who submits
    <folder>/<submission>/<index>.pid.json    process id and start time; the job begins only after this is written
    <folder>/<submission>/<index>.exit.json   how it ended; the job's own last act, or written for it when it was killed
"""

from __future__ import annotations

from pathlib import Path

from cluster.executors._process import Identity
from cluster.launch import exit_note
from sweeps.language.stage import Frozen
from sweeps.store import files
from sweeps.store.files import SCHEMA_VERSION


class Note(Frozen):
    """A job, written before it starts."""

    schema_version: int = SCHEMA_VERSION
    submission: str
    index: int
    count: int
    """Jobs in the submission."""
    ticket: str
    token: str
    """Random word on the job's command line."""
    host: str
    boot: str
    """Identity of the machine's boot; process ids mean nothing on another."""
    submitter_pid: int
    submitter_start: int
    """The controller that starts the job; until it dies, a job without a process is only late."""
    out: str
    err: str

    def path(self, folder: Path) -> Path:
        """Where the note lies."""
        return folder / self.submission / f"{self.index}.json"


def pid_note(note: Path) -> Path:
    """Return where the process of the job with this note is recorded."""
    return note.with_suffix(".pid.json")


def write_process(note: Path, process: Identity) -> None:
    """Record a job's process."""
    files.create(pid_note(note), files.to_json(
        {"schema_version": SCHEMA_VERSION, "pid": process.pid, "start": process.start}
    ))


def read_process(note: Path, token: str) -> Identity | None:
    """Return the recorded process of a job; None where it has none."""
    try:
        raw = files.read_json(pid_note(note))
    except FileNotFoundError:
        return None
    return Identity(pid=raw["pid"], start=raw["start"], token=token)


def read_exit(note: Path) -> str | None:
    """Return how a job ended; None where nothing says so."""
    try:
        return str(files.read_json(exit_note(note))["detail"])
    except FileNotFoundError:
        return None


def read_notes(folder: Path, submission: str) -> list[Note]:
    """Return the notes of a submission in the order of its jobs; [] where there is none."""
    return [_read(folder / submission, index) for index in _listed(folder / submission)[0]]


def open_notes(folder: Path, submission: str) -> tuple[list[Note], bool]:
    """Return the notes of the jobs that nothing says have ended, and whether every job of the submission has a note."""
    indices, ended = _listed(folder / submission)
    notes = [_read(folder / submission, index) for index in indices if index not in ended]
    whole = bool(indices) and _read(folder / submission, indices[0]).count == len(indices)
    return notes, whole


def _listed(folder: Path) -> tuple[list[int], set[int]]:
    """Return the jobs that have a note, in order, and those that have an exit note; one listing, nothing read."""
    try:
        names = [p.name for p in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return [], set()
    numbered = [(int(head), tail) for head, _, tail in (n.partition(".") for n in names) if head.isdigit()]
    return sorted(i for i, tail in numbered if tail == "json"), {i for i, tail in numbered if tail == "exit.json"}


def _read(folder: Path, index: int) -> Note:
    return Note.model_validate_json((folder / f"{index}.json").read_text(encoding="utf-8"))
