"""Drawings as files; one that is as it was is not drawn again, which is most of a report's time.

`drawn.json` beside the files says of each what it was drawn from (`Drawing.identity`, the code that draws and
matplotlib's version) and its SHA-256. A file counts only where both hold, so deleting or damaging anything costs time
and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from analysis.drawing import FORMATS, SVG_HEAD, Drawing
from sweeps.errors import RecordError
from sweeps.store import files

STATED = "drawn.json"
_HERE = Path(__file__).parent
_CODE = ("drawing.py", "heat.py", "figures/*.py")
"""What paints; all else that a picture depends on is its data."""


class Drawn:
    """The files of drawings in one folder; None: nothing is kept."""

    def __init__(self, folder: Path | None = None) -> None:
        """Take what is stated in `folder`."""
        self.folder = folder
        self._known: dict[str, list[str]] = {}
        """File name -> what it was drawn from, and its SHA-256."""
        self._asked: dict[str, list[str]] = {}
        with suppress(OSError, ValueError, KeyError, TypeError, RecordError):
            if folder is not None:
                self._known = dict(files.read_json(folder / STATED)["files"])

    def svg(self, drawing: Drawing) -> str:
        """Return a drawing's <svg> element."""
        return self.file(drawing, "svg").decode().removeprefix(SVG_HEAD).rstrip("\n")

    def file(self, drawing: Drawing, kind: str) -> bytes:
        """Return a drawing's file of one of `FORMATS`, which then lies in the folder."""
        if self.folder is None:
            return drawing.file(kind)
        path, source = self.folder / f"{drawing.key}.{kind}", f"{drawing.identity} {_code()}"
        with suppress(OSError, KeyError, ValueError, TypeError):
            stated, digest = self._asked.get(path.name) or self._known[path.name]
            data = path.read_bytes()
            if stated == source and hashlib.sha256(data).hexdigest() == digest:
                self._asked[path.name] = [stated, digest]
                return data
        self._drop(drawing, source)
        data = drawing.file(kind)
        files.replace(path, data)
        self._asked[path.name] = [source, hashlib.sha256(data).hexdigest()]
        return data

    def _drop(self, drawing: Drawing, source: str) -> None:
        """Remove what shows the drawing as it was: a report that asks for SVG alone leaves no older PDF beside it."""
        assert self.folder is not None
        for name in (f"{drawing.key}.{kind}" for kind in FORMATS):
            stated = self._asked.get(name) or self._known.get(name)
            if stated and stated[0] != source:
                (self.folder / name).unlink(missing_ok=True)

    def write(self, drawings: Sequence[Drawing], kinds: Sequence[str] = FORMATS) -> list[Path]:
        """Write drawings as `<key>.svg`, `.pdf` and `.png`; return the paths."""
        assert self.folder is not None
        for drawing in drawings:
            for kind in kinds:
                self.file(drawing, kind)
        return [self.folder / f"{drawing.key}.{kind}" for drawing in drawings for kind in kinds]

    def save(self) -> None:
        """State what lies in the folder. What nobody asked for this time stays stated, as long as it is there."""
        if self.folder is not None and self._asked:
            stated = {**self._known, **self._asked}
            files.renew(self.folder / STATED, files.seal(
                {"schema_version": files.SCHEMA_VERSION, "files": dict(sorted(stated.items()))}))


@lru_cache(maxsize=1)
def _code() -> str:
    sources = sorted(path for pattern in _CODE for path in _HERE.glob(pattern))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return f"{digest} matplotlib {version('matplotlib')}"
