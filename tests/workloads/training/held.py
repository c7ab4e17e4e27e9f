"""A checkpoint whose writing is held back while training goes on, and a training that dies once it is committed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from workloads.training.engine import Engine
from workloads.training.saving import Saver


class Killed(BaseException):
    """Training ends here as if it were killed: nothing more is saved."""


@contextmanager
def held_back(updates: int) -> Iterator[list[Saver]]:
    """Write nothing of the first checkpoint until so many updates followed it; commit it then, and die.

    Yields the saver, once it has begun to save.
    """
    plain_save, plain_write, plain_update = Saver.save, Saver._write, Engine.update
    go, savers, made = threading.Event(), [], []

    def save(self: Saver, *given: Any, **more: Any) -> None:
        savers.append(self)
        plain_save(self, *given, **more)
        assert self.underway

    def write(self: Saver, *given: Any) -> None:
        go.wait()
        plain_write(self, *given)

    def update(self: Engine, *given: Any, **more: Any) -> Any:
        if savers:
            made.append(self)
            if len(made) > updates:
                go.set()
                savers[0].flush()
                raise Killed
        return plain_update(self, *given, **more)

    with patch.object(Saver, "save", save), patch.object(Saver, "_write", write), patch.object(
            Engine, "update", update):
        try:
            yield savers
        finally:
            go.set()
