"""A GPU without room for the micro-batch, in real training: half of it then runs, accumulated twice as often."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.store.files import read_json
from sweeps.store.layout import Layout
from sweeps.store.ledger import read_events
from sweeps.store.records import read_result
from tests.faults.conftest import Undisturbed
from tests.faults.live import SWEEP, Live

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]
ROOM = 2
"""Sequences of a forward pass for which there is room; the scale tiny has 4 an update."""
NO_ROOM = f'''
"""Lets no training step have more than {ROOM} sequences, as a GPU does that is too small."""

import torch

from sweeps.language.plugins import Science, StageKind

embed = torch.nn.Embedding.forward


def forward(self, tokens_BT):
    if torch.is_grad_enabled() and tokens_BT.shape[0] > {ROOM}:  # what is only evaluated keeps no activations
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return embed(self, tokens_BT)


torch.nn.Embedding.forward = forward


class Unused(Science):
    """Nothing: a plug-in must be one."""


def run(context):
    return {{}}


PLUGIN = StageKind(science=Unused, revision=1, implementation=":run")
'''


def test_half_the_micro_batch_runs_where_the_whole_has_no_room(tmp_path: Path, undisturbed: Undisturbed) -> None:
    (tmp_path / "no_room.py").write_text(NO_ROOM, encoding="utf-8")
    file = tmp_path / "small.yaml"
    text = SWEEP.read_text(encoding="utf-8").replace("[none, shuffle_dyck]", "[none]")
    file.write_text(f"{text}plugins: [no_room.py]\n", encoding="utf-8")
    live = Live(root=tmp_path / "store", file=file)
    live.finish("--quiet")
    ends = [e for e in read_events(Layout(live.root).sweep("faults")) if e["event"] in ("interrupted", "failed")]
    assert {(e["class"], e["action"], e["micro_batch"]) for e in ends} == {("oom_gpu", "halve", ROOM)}
    halved = {e["fingerprint"] for e in ends}
    trained = [stage.name for stage in (live.root / "stages" / "pretrain").iterdir()]
    assert len(trained) == 2 and halved == set(trained), "a trunk and its annealed end"
    for name in trained:
        ours, theirs = (Layout(root).stage("pretrain", name) for root in (live.root, undisturbed.live.root))
        result, whole = read_result(ours), read_result(theirs)
        assert result is not None and whole is not None, "of the same identity: layout is no science"
        assert result.attempt == 2 and read_json(ours.attempt(2).execution)["layout"]["micro_batch"] == ROOM
        steps = ("updates", "adam_steps", "tokens")
        assert {k: result.scores[k] for k in steps} == {k: whole.scores[k] for k in steps}
        assert result.scores["loss"] == pytest.approx(whole.scores["loss"], abs=1e-3), "the same mean gradient"
