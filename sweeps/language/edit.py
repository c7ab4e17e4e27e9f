"""Edit a sweep file in place: only the bytes that change do, so comments, layout and line ends stay as they are.

The values are found through the parser's marks, the text is changed there, and the result is read again and compared
with what was meant before it replaces the file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from sweeps.errors import UsageError
from sweeps.language.read import parse


def with_more_seeds(text: str, added: Sequence[int], name: str) -> str:
    """Return the text of a sweep file with seeds added at the end of `axes.seed`.

    Args:
        text: the file.
        added: whole numbers that the axis does not have yet.
        name: of the file, for messages.

    Raises:
        UsageError: the axis is no plain list of this file (an anchor, an alias, a merge key).
    """
    seeds = _seeds(text, name)
    last = seeds.value[-1]
    if seeds.flow_style:
        at, new = last.end_mark.index, "".join(f", {s}" for s in added)
    else:
        newline = "\r\n" if "\r\n" in text else "\n"
        end = text.find("\n", last.end_mark.index)
        at = len(text) if end < 0 else end + 1
        first = newline if end < 0 else ""
        lines = [f"{' ' * seeds.start_mark.column}- {s}" for s in added]
        new = first + newline.join(lines) + (newline if end >= 0 else "")
    edited = text[:at] + new + text[at:]
    _compare(text, edited, added, name)
    return edited


def _seeds(text: str, name: str) -> SequenceNode:
    """Return the node of `axes.seed`."""
    yaml = YAML(typ="rt", pure=True)
    yaml.version = (1, 2)
    top = yaml.compose(text)
    axes = _value(top, "axes", name)
    seeds = _value(axes, "seed", name)
    if not isinstance(seeds, SequenceNode) or not seeds.value:
        raise UsageError(f"{name}: axes.seed is no list of seeds; write it as seed: [0, 1, 2]")
    return seeds


def _value(mapping: Node, key: str, name: str) -> Node:
    pairs = mapping.value if isinstance(mapping, MappingNode) else []
    for found, value in pairs:
        if found.value == key:
            # An alias yields the node that its anchor names, which lies elsewhere; an anchor may have other readers.
            if value.anchor is not None or value.start_mark.index < found.end_mark.index:
                raise UsageError(f"{name}: {key} is written with an anchor or alias (& or *), so editing it could "
                                 "change something else; write the list out, or edit the file by hand")
            found_value: Node = value
            return found_value
    raise UsageError(f"{name}: {key} is not written here (is it merged in with <<?); write axes: with seed: [0, 1] "
                     "out, or edit the file by hand")


def _compare(old: str, new: str, added: Sequence[int], name: str) -> None:
    """Refuse an edit whose result would not read as what was meant."""
    meant = parse(old, name).values
    meant["axes"]["seed"] = [*meant["axes"]["seed"], *added]
    if parse(new, name).values != meant:
        raise UsageError(f"{name}: its layout is too unusual to be edited safely; add {list(added)} to axes.seed by "
                         "hand")


def replace_text(path: Path, text: str) -> None:
    """Replace a file at once, keeping its mode; what a link points to is replaced, not the link."""
    real = path.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{real.name}.", dir=real.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        shutil.copymode(real, name)
        Path(name).replace(real)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
