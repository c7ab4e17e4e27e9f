"""A Tune trial: a thin client that reports rows as its stages' records grow. It computes nothing and holds no truth."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ray import tune

from sweeps.store.layout import AttemptFolder, Layout
from sweeps.store.records import own_rows

POLL_SECONDS = 0.2
HEARTBEAT_SECONDS = 10.0
"""A silent trial reports its last row again after this long, so that Tune can stop it."""


class TrialClient(tune.Trainable):  # type: ignore[misc]
    """Reports `tokens`, `loss`, `scored` and `state` of one trial."""

    def setup(self, config: dict[str, Any]) -> None:
        """`config`: root, trial, pretrain (fingerprints of its PT stages in order), state_file."""
        self._open(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Serve another trial with the same process (about 110 MB and a second saved)."""
        self._open(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save: the store has it."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Never used: Tune is not restored."""

    def _open(self, config: dict[str, Any]) -> None:
        self._layout = Layout(Path(config["root"]))
        self._stages: list[str] = list(config["pretrain"])
        self._state_file = Path(config["state_file"])
        self._stop_file = Path(config["stop_file"])
        self._seen: dict[Path, int] = {}
        self._last: dict[str, Any] = {"tokens": 0, "loss": None, "scored": False}

    def step(self) -> dict[str, Any]:
        """Wait for news of the trial; return its newest row."""
        began = time.monotonic()
        while True:
            state = self._state()
            news = self._news()
            if state is not None or news or self._stop_file.exists() or time.monotonic() - began > HEARTBEAT_SECONDS:
                return {**self._last, "state": state or "running", tune.result.DONE: state is not None}
            time.sleep(POLL_SECONDS)

    def _state(self) -> str | None:
        try:
            return str(json.loads(self._state_file.read_text(encoding="utf-8"))["state"])
        except (FileNotFoundError, ValueError):
            return None

    def _news(self) -> bool:
        """Take in rows that appeared since the last look."""
        news = False
        for fingerprint in self._stages:
            for path in self._layout.stage("pretrain", fingerprint).attempts.glob("*/metrics.jsonl"):
                size = path.stat().st_size
                if self._seen.get(path) == size:
                    continue
                self._seen[path] = size
                for row in own_rows(AttemptFolder(path.parent)):
                    if row.kind in ("validation", "end") and row.tokens >= self._last["tokens"]:
                        self._last = {"tokens": row.tokens, "loss": row.values.get("loss"), "scored": row.kind == "end"}
                        news = True
        return news
