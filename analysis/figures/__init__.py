"""Figures. The folder is the registry: each file exports `PLUGIN = FigurePlugin(...)`, its name is the figure's."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from analysis.drawing import FigurePlugin
from analysis.drawn import Drawn
from analysis.study import study


def registry() -> dict[str, FigurePlugin]:
    """Return name -> figure for every file in this folder."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").PLUGIN for name in names}


def write_figures(root: Path, name: str, out: Path) -> list[Path]:
    """Write every drawing of a sweep as `<out>/<key>.svg`, `.pdf` and `.png`; return the paths.

    The same records give the same bytes; what is there already and would be the same is not drawn again.
    """
    found, drawn = study(root, name), Drawn(out)
    written = drawn.write([drawing for plugin in registry().values() for drawing in plugin.build(found)])
    drawn.save()
    return written
