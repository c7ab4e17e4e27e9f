"""Sinks. The folder is the registry: each file exports `PLUGIN = Sink(...)`, and its name is the sink's name."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from typing import TYPE_CHECKING

from sweeps.errors import EnvironmentError_, UsageError, nearest

if TYPE_CHECKING:
    from analysis.sink import Sink


def find(name: str) -> Sink:
    """Return a sink whose package is installed.

    Raises:
        UsageError: there is no such sink.
        EnvironmentError_: its package is not installed.
    """
    known = sorted(m.name for m in pkgutil.iter_modules(__path__))
    if name not in known:
        raise UsageError(f"--to {name}: there is no such sink; {nearest(name, known)}")
    sink: Sink = importlib.import_module(f"{__name__}.{name}").PLUGIN
    if importlib.util.find_spec(sink.package) is None:
        raise EnvironmentError_(f"--to {name} needs the package {sink.package}, which is not installed: "
                                f"pip install 'prepretraining-orchestrator[{sink.extra}]'")
    return sink
