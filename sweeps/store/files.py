"""Atomic files and checked lines: the only ways in which this project writes facts.

A fact is either created whole and exclusively (`create`, `commit`) or appended as a line that carries its own sequence
number and checksum (`encode_line`), so that a torn, merged or repeated line is noticed when read. Where there is no
space, each of them leaves nothing behind and raises `StorageError` (sweeps.store.space).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import Any

from sweeps.errors import NewerRecordError
from sweeps.store.space import writing

SCHEMA_VERSION = 1
"""Version of every file in the store. Older ones stay readable; a file that states none is of version 0."""

_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode
_END = object()
_NONFINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_json(value: Any) -> str:
    """Return canonical one-line JSON: sorted keys, no spaces, non-finite floats as the strings nan, inf, -inf."""
    try:
        return _ENCODE(value)
    except (ValueError, TypeError):  # a non-finite number, or a mapping that is no dictionary
        return _ENCODE(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def number(value: Any) -> float:
    """Return a float from what `to_json` wrote for it."""
    return _NONFINITE[value] if isinstance(value, str) else float(value)


def whole(value: Any) -> int:
    """Return a whole number as it is.

    Raises:
        TypeError: it is none.
    """
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object written by `create` or `replace`.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged: no JSON, no object, or not what its checksum (where it has one) says.
        NewerRecordError: it was written by a newer release.
    """
    text = path.read_text(encoding="utf-8")
    loaded = unseal(text) or json.loads(text)
    if not isinstance(loaded, dict):
        raise ValueError(f"a {type(loaded).__name__} where an object was expected")
    if loaded.pop("crc", None) is not None:  # `unseal` leaves none
        raise ValueError("its checksum does not fit its text")
    refuse_newer(loaded, path)
    return loaded


def flattened(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values by their dotted names, for telling what differs."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}"
        found |= flattened(name, value) if isinstance(value, Mapping) and value else {name: value}
    return found


def refuse_newer(fields: Mapping[str, Any], path: Path) -> None:
    """Refuse what states a later schema version than this code knows.

    Raises:
        NewerRecordError: it does.
    """
    version = fields.get("schema_version", 0)
    if isinstance(version, (int, float)) and version > SCHEMA_VERSION:
        raise NewerRecordError(f"{path} was written by a newer release (schema version {version}, this one reads up to "
                               f"{SCHEMA_VERSION}); use that release, or another root")


def sync_folder(folder: Path) -> None:
    """Make renames and links inside `folder` durable."""
    sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def sync(path: Path, flags: int = os.O_RDONLY) -> None:
    """Make what was written into a file (or folder) durable."""
    with writing(path):
        handle = os.open(path, flags)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_temporary(path: Path, content: str | bytes, *, durable: bool = True) -> Path:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content.encode() if isinstance(content, str) else content)
            if durable:
                out.flush()
                os.fsync(out.fileno())
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


class Durable(Enum):
    """What of a new file is on disk when `create` returns. Each step less saves a third of the time."""

    WHOLE = auto()
    """Content, then name."""
    CONTENT = auto()
    """The name may go in a power failure: that is harmless, or a later sync of the folder precedes what counts."""
    NOTHING = auto()
    """The name may even stay without its content: whoever reads the file takes a damaged one for a void one."""


def create(path: Path, text: str, *, durable: Durable = Durable.WHOLE) -> bool:
    """Create `path` whole and exclusively (written beside, then link(2)); False where it already exists."""
    with writing(path):
        temporary = _write_temporary(path, text, durable=durable is not Durable.NOTHING)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        if durable is Durable.WHOLE:
            sync_folder(path.parent)
    return True


def replace(path: Path, content: str | bytes) -> None:
    """Write `path` whole, replacing what was there. Only for what one owner writes and what may be made again."""
    with writing(path):
        temporary = _write_temporary(path, content)
        try:
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def renew(path: Path, content: str | bytes) -> None:
    """Write `path` whole where it does not hold this already: what was made again, and most often is the same."""
    data = content.encode() if isinstance(content, str) else content
    with suppress(OSError):
        if path.read_bytes() == data:
            return
    replace(path, data)


def append(descriptor: int, path: Path, text: str, *, durable: bool = False) -> None:
    """Append a whole line, or nothing: what was written of it before the disk was full is cut off again.

    Only for a file with one writer (an attempt's rows, a term's ledger); without a second writer the cut is safe.

    Args:
        descriptor: opened with O_APPEND.
        path: its path, for the message.
        text: the line, newline included.
        durable: return only when it is on disk.

    Raises:
        StorageError: no space; the file is as it was.
    """
    data = text.encode()
    before = os.fstat(descriptor).st_size
    try:
        with writing(path):
            while data:  # a write may take only a part: the last one before the disk is full
                data = data[os.write(descriptor, data):]
            if durable:
                os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            os.ftruncate(descriptor, before)
        raise


def seal(fields: Mapping[str, Any]) -> str:
    """Return one-line JSON of `fields` with `crc`, the CRC-32 of the text without it."""
    body = to_json(fields)
    return f'{body[:-1]},"crc":"{zlib.crc32(body.encode()):08x}"}}'


def encode_line(sequence: int, fields: Mapping[str, Any]) -> str:
    """Return one checked JSON line, newline included: `fields`, `n` (the sequence number) and `crc`."""
    return seal({**fields, "n": sequence}) + "\n"


def decode_line(line: str) -> dict[str, Any] | None:
    """Return the fields of a checked line (`n` kept), or None where it is torn, merged or altered."""
    decoded = unseal(line)
    return None if decoded is None or type(decoded.get("n")) is not int else decoded


def sealed(text: str) -> str | None:
    """Return the JSON that `seal` sealed, or None where the text is not what its checksum says."""
    head, mark, tail = text.rstrip("\n").rpartition(',"crc":"')
    if not mark or tail[8:] != '"}':
        return None
    body = head + "}"
    return body if f"{zlib.crc32(body.encode()):08x}" == tail[:8] else None


def unseal(text: str) -> dict[str, Any] | None:
    """Return what `seal` was given, or None where the text is not what its checksum says."""
    body = sealed(text)
    if body is None:
        return None
    try:
        decoded: dict[str, Any] = json.loads(body)
    except (ValueError, RecursionError):  # sealed by somebody who does not write JSON
        return None
    return decoded


def decode_lines(lines: Sequence[str]) -> list[dict[str, Any] | None]:
    """Return what `decode_line` returns of each line; one call of the decoder for all of them, twice as fast."""
    bodies = [sealed(line) for line in lines]
    try:
        decoded = iter(json.loads(f"[{','.join(body for body in bodies if body is not None)}]"))
        found = [None if body is None else next(decoded) for body in bodies]
        if next(decoded, _END) is _END and all(f is None or type(f.get("n")) is int for f in found):
            return found
    except (ValueError, RecursionError, StopIteration, AttributeError):  # sealed by somebody who does not write objects
        pass
    return [decode_line(line) for line in lines]


def read_lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """Yield the decoded lines of a file, None for each damaged one; nothing where the file is missing."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.split("\n"):
        if line:
            yield decode_line(line)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
