"""Figures. The folder is the registry: each file exports `PLUGIN = FigurePlugin(...)`, its name is the figure's."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from analysis.drawing import FigurePlugin
from analysis.study import study
from sweeps.store import files


def registry() -> dict[str, FigurePlugin]:
    """Return name -> figure for every file in this folder."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").PLUGIN for name in names}


def write_figures(root: Path, name: str, out: Path) -> list[Path]:
    """Write every figure of a sweep as `<out>/<key>.svg`; return the paths. The same records give the same bytes."""
    found = study(root, name)
    written = []
    for plugin in registry().values():
        for drawing in plugin.build(found):
            written.append(out / f"{drawing.key}.svg")
            files.replace(written[-1], '<?xml version="1.0" encoding="utf-8"?>\n' + drawing.svg + "\n")
    return written
