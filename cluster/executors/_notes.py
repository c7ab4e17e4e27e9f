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
    try:
        paths = [p for p in (folder / submission).iterdir() if p.suffix == ".json" and p.stem.isdigit()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    notes = [Note.model_validate_json(p.read_text(encoding="utf-8")) for p in paths]
    return sorted(notes, key=lambda n: n.index)
