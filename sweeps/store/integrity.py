"""Whether the files of a folder are what its manifest says, and what happens to a checkpoint that is not.

torch and safetensors load a flipped byte without noticing, so every checkpoint is verified by SHA-256 before it is
read (about 1 s per GB). A damaged one is renamed aside, inside its attempt, where nobody takes it for a checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweeps.store import files
from sweeps.store.layout import StageFolder

MANIFEST = "MANIFEST.json"
DAMAGED = ".damaged-"
"""What follows the token count in the name of a checkpoint that was set aside; a number comes after it."""
REMOVED = ".removed"
"""What follows the token count in the name of a note: this checkpoint was deleted on purpose, its stage stays done."""
REASON = "DAMAGE.txt"
"""In such a folder: what was found wrong, one line."""

SMALL_BYTES = 1_000_000
"""Up to this size a file (rows, scores, tables) is read whole even by the fast check: 0.5 ms."""

log = logging.getLogger("sweeps.store.integrity")


def manifest_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return relative path -> {size, sha256} of every file below `folder` but manifests."""
    return {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": files.sha256_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def verify(folder: Path, manifest: Any, *, thorough: bool = True) -> str:
    """Return the empty string where every file is as its manifest says, else what differs first.

    Args:
        folder: where the files lie.
        manifest: relative path -> {size, sha256}; of any shape, since it may be damaged itself.
        thorough: compare the SHA-256 of every file, which reads every byte; else of the small ones only.
    """
    if not isinstance(manifest, Mapping):
        return f"the manifest of {folder} lists no files"
    for name, stated in manifest.items():
        path = folder / name
        size = _size(path)
        if size is None:
            return f"{path} is missing"
        if not isinstance(stated, Mapping) or not {"size", "sha256"} <= stated.keys():
            return f"the manifest of {folder} does not say what {name} should be"
        if size != stated["size"]:
            return f"{path} has {size} bytes, the manifest says {stated['size']}"
        if (thorough or size <= SMALL_BYTES) and _digest(path) != stated["sha256"]:
            return f"{path} does not have the manifest's SHA-256"
    return ""


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _digest(path: Path) -> str:
    try:
        return files.sha256_file(path)
    except OSError as error:  # a disk that cannot read what it holds: EIO
        return f"cannot be read: {error.strerror}"


def damage_of_checkpoint(folder: Path, *, thorough: bool = True) -> str:
    """Return what is wrong with the checkpoint in a folder, or the empty string; a missing manifest is damage too.

    Raises:
        NewerRecordError: it was written by a newer release.
    """
    path = folder / MANIFEST
    try:
        raw = files.read_json(path)
    except FileNotFoundError:
        return f"{path} is missing"
    except (OSError, ValueError) as error:
        return f"{path}: {error}"
    if raw.get("tokens") != int(folder.name) or not raw.get("files"):
        return f"{path} does not describe this checkpoint"
    return verify(folder, raw["files"], thorough=thorough)


def removed_note(checkpoint: Path) -> Path:
    """Return the note that says that a checkpoint was deleted on purpose."""
    return checkpoint.with_name(checkpoint.name + REMOVED)


def how_to_remake(stage: StageFolder) -> str:
    """Return what to do about a damaged stage."""
    return f"remove the folder {stage.path} and run the same command again to make it anew"


def quarantine(folder: Path, reason: str) -> Path | None:
    """Set a damaged checkpoint aside, so that nobody takes it and its name is free; None where it could not be.

    A race is harmless: the rename of the second one finds nothing. Where the folder belongs to somebody else who does
    not let us, it stays, and is passed over all the same.
    """
    number = 1 + sum(1 for _ in folder.parent.glob(f"{folder.name}{DAMAGED}*"))
    aside = folder.with_name(f"{folder.name}{DAMAGED}{number}")
    try:
        folder.rename(aside)  # never onto another one: rename(2) refuses a folder that is not empty
    except OSError as error:
        log.warning("damaged checkpoint %s could not be set aside: %s", folder, error)
        return None
    with suppress(OSError):  # the reason is a comfort; a full disk may refuse it
        (aside / REASON).write_text(reason + "\n", encoding="utf-8")
    log.warning("damaged checkpoint set aside as %s: %s", aside, reason)
    return aside


def reason_of(folder: Path) -> str:
    """Return why a checkpoint that is no longer there was set aside; empty where it is there, or never was."""
    if folder.exists():
        return ""
    aside = sorted(folder.parent.glob(f"{folder.name}{DAMAGED}*"))
    return f"{folder} was set aside as {aside[-1].name} ({_reason(aside[-1])})" if aside else ""


def _reason(aside: Path) -> str:
    try:
        return (aside / REASON).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "no reason is recorded"
