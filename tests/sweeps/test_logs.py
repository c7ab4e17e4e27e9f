"""Losses from elsewhere are read strictly: what is wrong is told by file and line, before any job."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.plan import Planned, make_plan
from sweeps.errors import SweepFileError
from sweeps.language.logs import read_log
from sweeps.language.spec import Overrides
from sweeps.store.files import sha256_file

SWEEP = """
schema_version: 1
name: logs
question: Is theirs better?
baseline: {upstream: none}
axes: {upstream: [none], domain: [code], seed: [0]}
fields: {tokenizer.corpora: [code]}
"""


def written(folder: Path, text: str) -> Path:
    (folder / "theirs.csv").write_text(text, encoding="utf-8")
    return folder / "theirs.csv"


def plan(folder: Path, log: str) -> Planned:
    (folder / "logs.yaml").write_text(f"{SWEEP}{log}", encoding="utf-8")
    return make_plan(folder / "logs.yaml", Overrides(), folder / "store")


def test_the_plan_records_digest_and_tokens_and_no_stage_moves(tmp_path: Path) -> None:
    path = written(tmp_path, "tokens,val_loss\n1000,5.5\n")
    plain, found = plan(tmp_path, ""), plan(
        tmp_path, "logs:\n  theirs: {file: theirs.csv, domain: code, upstream_tokens: 164M}\n")
    [log] = found.file.logs.values()
    assert (log.file, log.sha256, log.domain, log.upstream_tokens) == (
        str(path), sha256_file(path), "code", 164_000_000)
    assert found.graph.nodes.keys() == plain.graph.nodes.keys() and plain.file.logs == {}


@pytest.mark.parametrize(("text", "words"), [
    ("tokens,val_loss\n1000,much\n", "theirs.csv:2: logs: val_loss is 'much', and must be a number"),
    ("tokens,val_loss\n1000,5\n1000,6\n", "theirs.csv:3: logs: a second loss at 1,000 tokens"),
    ("tokens,val_loss\n1000,nan\n", "theirs.csv:2: logs: val_loss is nan, and must be finite"),
    ("tokens,val_loss\n-1,5\n", "theirs.csv:2: logs: tokens is -1, and must be finite and above 0"),
    ("tokens,val_loss\n1000\n", "theirs.csv:2: logs: val_loss is None"),
    ("tokens,val_loss\n1,2,3\n", "theirs.csv:2: logs: has more values"),
    ("tokens,val_loss,seed\n1000,5,first\n", "theirs.csv:2: logs: seed is 'first'"),
    ("tokens,loss\n1000,5\n", "theirs.csv:1: logs: has no column val_loss"),
    ("tokens,val_loss,panel\n1000,5,a\n", "theirs.csv:1: logs: unknown column 'panel'"),
    ("tokens,val_loss\n", "theirs.csv:1: logs: holds no loss"), ("", "theirs.csv:1: logs: has no column tokens"),
])
def test_what_is_wrong_in_the_file_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    written(tmp_path, text)
    with pytest.raises(SweepFileError) as error:
        plan(tmp_path, "logs: {theirs: {file: theirs.csv, domain: code}}\n")
    assert words in str(error.value)


@pytest.mark.parametrize(("log", "words"), [
    ("{file: theirs.csv, domain: math}", "is not on the axis domain"),
    ("{file: none.csv, domain: code}", "none.csv:1: logs: cannot be read: No such file"),
    ("{file: theirs.csv, domain: code, upstream_tokens: 1x}", "a multiple of a reference has no meaning here"),
    ("{file: theirs.csv}", "this key is missing"), ("{path: theirs.csv, domain: code}", "unknown key"),
])
def test_what_is_wrong_in_the_sweep_file_is_told(tmp_path: Path, log: str, words: str) -> None:
    written(tmp_path, "tokens,val_loss\n1000,5\n")
    with pytest.raises(SweepFileError, match=words):
        plan(tmp_path, f"logs:\n  theirs: {log}\n")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.dictionaries(st.tuples(st.integers(0, 9), st.integers(1, 10**12)), st.floats(1e-3, 1e3), min_size=1))
def test_what_was_written_is_read(tmp_path: Path, losses: dict[tuple[int, int], float]) -> None:
    path = written(tmp_path, "seed,tokens,val_loss\n" + "".join(f"{s},{t},{x!r}\n" for (s, t), x in losses.items()))
    assert {(row.seed, int(row.tokens)): row.loss for row in read_log(path)} == losses
