"""The table `finetuning`: scores before and after, paired by item and seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.load import load
from analysis.study import Study
from analysis.tables import registry
from analysis.two_way import two_way_t
from tests.analysis.conftest import Arm
from tests.analysis.test_downstream import (  # noqa: F401
    ARMS,
    NCA,
    SCRATCH,
    Asked,
    Values,
    _asked,
    drawn,
    programs,
    scored,
    write_items,
)


@dataclass
class Tuned(Asked):
    """A sweep that fine-tunes for its task."""

    before: Values | None = None

    def _trial(self, arm: Arm, domain: str, seed: int) -> Any:
        trial = super()._trial(arm, domain, seed)
        *path, last = trial.path
        steps = [self._stage(trial.id, "downstream_untuned", "downstream", 0, f"{trial.id} before", {
                     "asked": (self.before or {})[arm.name][seed]}),
                 self._stage(trial.id, "finetune", "finetune", 1000, trial.id, {})]
        return trial.model_copy(update={"path": (*path, *steps, last)})


def build(root: Path, before: Values, after: Values) -> Study:
    arms = tuple(arm for arm in ARMS if arm.name in after)
    Tuned(root, arms=arms, domains=("web",), seeds=3, values=after, before=before, plan={"claims": {}}).build()
    return Study(load(root, "demo"))


def test_before_and_after_are_paired_by_item_and_seed(tmp_path: Path) -> None:
    arms = (SCRATCH, NCA)
    items = {role: {arm: [drawn(shift + 0.02 * n, s + 7 * n) for s in range(3)] for n, arm in enumerate(arms)}
             for role, shift in (("downstream_untuned", 0.0), ("downstream", 0.1))}
    means = {role: {arm: [scored(float(np.mean(rows["cloze"]))) for rows in seeds] for arm, seeds in of.items()}
             for role, of in items.items()}
    study = build(tmp_path, means["downstream_untuned"], means["downstream"])
    for trial in study.records.plan.trials:
        for role, of in items.items():
            write_items(tmp_path, trial.id, role, of[trial.arm][trial.seed])
    frame = registry()["finetuning"].build(Study(load(tmp_path, "demo"))).set_index("arm")
    pairs = np.array([np.subtract(a["cloze"], b["cloze"]) for a, b in zip(
        items["downstream"][NCA], items["downstream_untuned"][NCA], strict=True)]).T
    expected, row = two_way_t(pairs), frame.loc[NCA]
    assert (row["difference"], row["low"], row["high"], row["detectable"]) == pytest.approx(
        (expected.mean, expected.low, expected.high, expected.detectable))
    assert row["after"] - row["before"] == pytest.approx(row["difference"]) and row["over"] == "items, seeds"
    shown = registry()["downstream"].build(Study(load(tmp_path, "demo"))).set_index("arm")
    assert shown.loc[NCA, "mean"] == pytest.approx(row["after"]), "the task's scores are the fine-tuned model's"


def test_programs_without_a_sandbox_are_told_whether_they_were_before_or_after(tmp_path: Path) -> None:
    ran = {kind: {SCRATCH: [programs(kind)] * 3} for kind in ("bubblewrap", "unsafe")}
    for before, after in (("unsafe", "bubblewrap"), ("bubblewrap", "unsafe")):
        frame = registry()["finetuning"].build(build(tmp_path / before, ran[before], ran[after]))
        assert set(frame["sandbox"]) == {"bubblewrap, unsafe"}


def test_a_sweep_without_fine_tuning_has_no_rows(tmp_path: Path) -> None:
    arms = ARMS[:1]
    Asked(tmp_path, arms=arms, domains=("web",), values={SCRATCH: [scored(0.4)] * 3}, plan={"claims": {}}).build()
    frame: pd.DataFrame = registry()["finetuning"].build(Study(load(tmp_path, "demo")))
    assert frame.empty
