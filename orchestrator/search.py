"""What Ray Tune asks of us: the next trial, and whether to stop. Imports ray, so only the controller imports it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

PAUSE_SECONDS = 0.02
"""Tune asks again at once when there is no trial now."""


class _Unpickled:
    """Tune pickles its parts to restore them later. It is never restored, so nothing is worth keeping."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class LiveTrials(_Unpickled, Searcher):  # type: ignore[misc]
    """Hands Tune a trial once its stages have begun: live trials are capped, the plan is not."""

    def __init__(self, next_live: Callable[[], str | None], over: Callable[[], bool],
                 config: Callable[[str], dict[str, Any]]) -> None:
        """`next_live` names a trial that has begun, `over` says that no more will, `config` is a trial's config."""
        super().__init__()
        self._next_live = next_live
        self._over = over
        self._config = config

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's config, None for "not now", or FINISHED."""
        over = self._over()  # asked first: what begins in between is then still handed out
        trial = self._next_live()
        if trial is not None:
            return self._config(trial)
        time.sleep(PAUSE_SECONDS)
        return str(Searcher.FINISHED) if over else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to learn: the store has it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Never used: running the command again is the resume."""


class Asked(_Unpickled, Stopper):  # type: ignore[misc]
    """Stops Tune when the controller was asked to leave."""

    def __init__(self, asked: Callable[[], bool], stop_file: Path) -> None:
        """The file tells the trial clients, which wait in other processes."""
        self._asked = asked
        self._stop_file = stop_file

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is stopped."""
        return False

    def stop_all(self) -> bool:
        """True once the controller was asked to leave."""
        asked = self._asked()
        if asked:
            self._stop_file.touch()
        return asked
