"""Stage `rules`: what reaches the upstream's bank, and that a stop is passed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.language.stage import Section, StageSpec
from sweeps.store.files import read_json
from sweeps.store.records import own_rows, read_result
from tests.workloads.tickets import make_ticket, stage_folder
from workloads.ranks import Ranks
from workloads.registry import load_registries
from workloads.run import Runner
from workloads.stages.rules import PLUGIN

UPSTREAM = '''
from sweeps.language.plugins import Science, Upstream
class Bank(Science):
    states: int = 2
class Fields(Bank):
    temperature: float = 1.0
def make_source(science, *, seed, stream, sequence_length, banks): ...
def make_bank(bank, *, seed, stream, first, count, folder, progress):
    from workloads.contract import Stopped
    if type(bank) is not Bank:
        raise TypeError(type(bank))
    for k in range(first, first + count):
        if progress(k - first + 1):
            raise Stopped
    (folder / "rules").write_text(f"{bank.states} {seed} {stream} {first} {count}")
    return {"acceptance": 0.5}
PLUGIN = Upstream(
    science=Fields, revision=1, implementation=":make_source", bank_science=Bank, bank_owner="own",
    bank_implementation=":make_bank",
)
'''


def block(plugin: str = "bank:own") -> StageSpec:
    """A stage of three held-out rules."""
    return StageSpec(kind="rules", revisions={"stage:rules": PLUGIN.revision}, sections={
        "bank": Section(plugin=plugin, values={"states": 3}, changed={"states": 3}),
        "block": Section(values={"stream": "held_out", "first": 6, "count": 3}, changed={}),
        "seed": Section(values={"seed": 4}, changed={}),
    })


def run(root: Path, stage: StageSpec, stop_at: int) -> int:
    """Run the stage; ask to stop after so many questions."""
    path = root / "own.py"
    path.write_text(UPSTREAM)
    asked = iter(range(100))
    ticket = make_ticket(root, [stage])
    return Runner(
        ticket=ticket, registries=load_registries([path]), ranks=Ranks(), should_stop=lambda: next(asked) >= stop_at
    ).run()


def test_a_block_of_rules(tmp_path: Path) -> None:
    assert run(tmp_path, block(), 99) == 0
    folder = stage_folder(tmp_path, block())
    result = read_result(folder)
    assert result is not None
    assert result.scores == {"acceptance": 0.5}
    assert (folder.attempt(1).artifacts / "rules").read_text() == "3 4 held_out 6 3"
    rows = list(own_rows(folder.attempt(1)))
    assert [dict(r.values) for r in rows] == [{"done": k, "of": 3.0} for k in (1.0, 2.0, 3.0)]
    assert {r.kind for r in rows} == {"progress"}


def test_a_stop_leaves_no_result(tmp_path: Path) -> None:
    assert run(tmp_path, block(), 2) == 0
    assert read_result(stage_folder(tmp_path, block())) is None
    assert (stage_folder(tmp_path, block()).attempt(1).path / "stopped.json").is_file()


@pytest.mark.parametrize(("plugin", "said"), [("bank:nothing", "unknown upstream"), ("task:copying", "Extra inputs")])
def test_an_upstream_without_a_bank(tmp_path: Path, plugin: str, said: str) -> None:
    assert run(tmp_path, block(plugin), 99) == 1
    assert said in read_json(stage_folder(tmp_path, block(plugin)).attempt(1).failure)["message"]
