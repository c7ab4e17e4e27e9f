"""A training job, killed at every point: `workloads.run` on a ticket with a real corpus, a checkpoint as often as one
can be made.

Most scenarios train on while a checkpoint is written; so that a point is the same one in every run, the thread that
writes then has ended each of its tasks by the next update.

torch, DeepSpeed and transformers are imported once (six seconds) and inherited by each child; nothing is computed
before the fork, so no thread of theirs is lost in it. The stages before pre-training run once, and their records are
copied for every point. A killed job is followed by another submission with the next claim, as the controller does it.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from orchestrator.plan import make_plan
from sweeps.language.graph import Node
from sweeps.language.spec import Overrides
from sweeps.language.stage import Execution, Ticket, TicketStage
from sweeps.store import claims, files
from sweeps.store.layout import Layout
from sweeps.store.records import MEASURED, artifacts_of
from tests.faults import points
from workloads import run as door

SWEEP = Path(__file__).parent / "points.yaml"
SMALL = Overrides(sets=("pretrain.tokens=0.03x",))
"""Six updates of a trunk, two of its annealed end."""
BEFORE = ("text", "tokenizer", "corpus")
HEAVY = ("deepspeed", "deepspeed.runtime.zero.muon.muon_optimizer", "transformers.models.llama.modeling_llama",
         "workloads.data.corpus", "workloads.training.runs")
"""The second is what DeepSpeed imports to set up any optimizer: it pulls in torch's compiler, two seconds."""


def ticket(root: Path, nodes: Sequence[Node], *, behind: bool = True) -> Path:
    """Claim the stages for a new submission and write its ticket; return the ticket's path."""
    layout = Layout(root)
    submissions = layout.sweep("faults").submissions
    name = f"faults-t1-{len(list(submissions.glob('*.json'))) + 1:04d}"
    stages = []
    for node in nodes:
        folder = layout.stage(node.spec.kind, node.spec.fingerprint)
        held = claims.holder(folder)
        after = held.number if held else 0
        claims.take(folder, sweep="faults", term=1, submission=name, after=after)
        continues = (node.after,) if node.after else ()
        stages.append(TicketStage(spec=node.spec, claim=after + 1, continues=continues))
    execution = Execution(checkpoint_seconds=0.0, checkpoint_share=1.0, checkpoint_async=behind, zero_stage=1)
    given = Ticket(root=str(root), sweep="faults", submission=name, execution=execution, stages=tuple(stages))
    path = submissions / f"{name}.json"
    files.create(path, given.model_dump_json())
    return path


def prepare(root: Path, base: Path, nodes: Sequence[Node], behind: bool) -> None:
    """Copy what comes before, and submit."""
    if not root.exists():
        shutil.copytree(base, root)
    ticket(root, nodes, behind=behind)


def run(root: Path) -> int:
    """Run the newest ticket, as the job's process does."""
    from workloads.training.saving import Saver

    plain = Saver.flags

    def flags(self: Saver) -> tuple[bool, bool, bool]:
        wait(self._tasks)
        return plain(self)

    with patch.object(Saver, "flags", flags):
        return door.main([str(max(Layout(root).sweep("faults").submissions.glob("*.json")))])


def facts(root: Path, nodes: Sequence[Node]) -> Mapping[str, str]:
    """Return each stage's rows and scores, and the digest of the final weights."""
    layout = Layout(root)
    folders = [layout.stage(node.spec.kind, node.spec.fingerprint) for node in nodes]
    weights = {f"weights {f.fingerprint}": files.sha256_file(artifacts_of(f) / "model.safetensors") for f in folders}
    return points.records(layout, measured=MEASURED) | weights


def main() -> None:
    """Make what comes before, then try the points."""
    for name in HEAVY:
        importlib.import_module(name)
    with TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        nodes = list(make_plan(SWEEP, SMALL, base).graph.nodes.values())
        ticket(base, [n for n in nodes if n.spec.kind in BEFORE])
        log = Path(folder) / "log"
        assert points.in_child(lambda: run(base), log) == 0, log.read_text()
        training = [n for n in nodes if n.spec.kind == "pretrain"]
        points.main({
            name: points.Scenario(prepare=partial(prepare, base=base, nodes=chosen, behind=name != "waiting"), run=run,
                                  facts=partial(facts, nodes=chosen))
            for name, chosen in {"trunk": training[:1], "waiting": training[:1], "trunk-and-end": training}.items()
        }, sys.argv[1:])


if __name__ == "__main__":
    main()
