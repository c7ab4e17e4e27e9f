"""Atomic files and checked lines: the only ways in which this project writes facts.

A fact is either created whole and exclusively (`create`, `commit`) or appended as a line that carries its own sequence
number and checksum (`encode_line`), so that a torn, merged or repeated line is noticed when read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
"""Version of every file in the store; older ones stay readable."""

_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode
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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object written by `write_new` or `write_beside`."""
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def sync_folder(folder: Path) -> None:
    """Make renames and links inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_temporary(path: Path, text: str) -> Path:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def create(path: Path, text: str) -> bool:
    """Create `path` whole and exclusively (written beside, then link(2)); False where it already exists."""
    temporary = _write_temporary(path, text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def replace(path: Path, text: str) -> None:
    """Write `path` whole, replacing what was there. Only for what one owner writes and what may be made again."""
    temporary = _write_temporary(path, text)
    temporary.replace(path)
    sync_folder(path.parent)


def encode_line(sequence: int, fields: Mapping[str, Any]) -> str:
    """Return one checked JSON line, newline included: `fields`, `n` (the sequence number) and `crc`."""
    body = to_json({**fields, "n": sequence})
    return f'{body[:-1]},"crc":"{zlib.crc32(body.encode()):08x}"}}\n'


def decode_line(line: str) -> dict[str, Any] | None:
    """Return the fields of a checked line (`n` kept), or None where it is torn, merged or altered."""
    head, mark, tail = line.rstrip("\n").rpartition(',"crc":"')
    if not mark or tail[8:] != '"}':
        return None
    body = head + "}"
    if f"{zlib.crc32(body.encode()):08x}" != tail[:8]:
        return None
    decoded: dict[str, Any] = json.loads(body)
    return decoded


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
