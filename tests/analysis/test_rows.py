"""Rows that were torn, repeated, reordered, interleaved or lost: none changes a number unseen."""

from __future__ import annotations

import random
import shutil
import zlib
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.load import Records, load
from analysis.study import Study
from analysis.tables import registry
from sweeps.language.manifest import PathStep
from sweeps.store import files
from sweeps.store.layout import AttemptFolder, Layout
from tests.analysis.conftest import PT, RELAXED, SCRATCH, SweepBuilder

TRIAL = "scratch-web-s0"


@pytest.fixture(scope="module")
def cosine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished trial whose end stage has a row every 15,000 tokens, training rows between them."""
    return SweepBuilder(tmp_path_factory.mktemp("cosine"), arms=(SCRATCH,), domains=("web",), seeds=1,
                        cosine=True).build()


def end_of(root: Path) -> PathStep:
    """The last end of the one trial."""
    return next(s for s in load(root, "demo").plan.trials[0].path if s.role == "end" and s.tokens == PT)


def attempt_of(root: Path, step: PathStep, number: int = 1) -> AttemptFolder:
    return Layout(root).stage(step.kind, step.fingerprint).attempt(number)


def left_out(found: Records, fingerprint: str) -> dict[str, int]:
    """What was left out of one step."""
    row = found.steps[found.steps["fingerprint"] == fingerprint].iloc[0]
    names = ("damaged_lines", "repeated_lines", "altered_files", "lost_attempts", "lost_items", "other_copies")
    return {name: int(row[name]) for name in names if row[name]}


def missing(found: Records) -> dict[tuple[str, str], int]:
    """The table: (what, status) -> count."""
    rows = registry()["missing"].build(Study(found)).to_dict("records")
    return {(str(r["what"]), str(r["status"])): int(r["count"]) for r in rows}


@RELAXED
@given(seed=st.integers(0, 10_000), repeats=st.integers(0, 4), torn=st.integers(0, 3), foreign=st.integers(0, 3))
def test_whatever_happened_to_the_lines_the_sound_ones_count_once_and_the_others_are_counted(
    cosine: Path, seed: int, repeats: int, torn: int, foreign: int
) -> None:
    chance, step = random.Random(seed), end_of(cosine)
    metrics = attempt_of(cosine, step).metrics
    before, sound = load(cosine, "demo").curves, metrics.read_text().splitlines()
    evaluations = [line for line in sound if '"kind":"train"' not in line]
    lines = sound + [chance.choice(evaluations) for _ in range(repeats)]
    chance.shuffle(lines)  # rows of several writers, in any order
    for _ in range(torn):
        lines.insert(chance.randrange(len(lines)), chance.choice(evaluations)[: chance.randrange(20, 60)])
    lines += [files.encode_line(int(files.decode_line(chance.choice(evaluations))["n"]),  # type: ignore[index]
                                {"tokens": 7, "kind": "end", "values": {"loss": 0.1}}).rstrip() for _ in range(foreign)]
    text = metrics.read_text()
    try:
        metrics.write_text("\n".join(lines) + "\n")
        found = load(cosine, "demo")
    finally:
        metrics.write_text(text)
    assert found.curves.equals(before)
    counts = {"damaged_lines": torn, "repeated_lines": repeats + foreign, "altered_files": int(lines != sound)}
    assert left_out(found, step.fingerprint) == {k: v for k, v in counts.items() if v}
    assert missing(found) == {("end", k.replace("_", " ")): v for k, v in counts.items() if v}


hostile = st.sampled_from(["{}", "null", "[1]", "{},{}", '{"n":1},null', '{"n":1.5}', '{"n":true}', "", "{" * 50])
lines_of = st.lists(st.one_of(
    st.integers(0, 9).map(lambda n: files.encode_line(n, {"kind": "end", "values": {"loss": n / 7}}).rstrip()),
    st.text(max_size=20), hostile, hostile.map(lambda b: f'{b[:-1]},"crc":"{zlib.crc32(b.encode()):08x}"}}'),
), max_size=6)


@RELAXED
@given(lines_of)
def test_lines_are_decoded_together_as_one_by_one(lines: list[str]) -> None:
    assert files.decode_lines(lines) == [files.decode_line(line) for line in lines]


def test_a_torn_training_row_that_swallowed_an_evaluation_is_seen(cosine: Path, tmp_path: Path) -> None:
    root = shutil.copytree(cosine, tmp_path / "store")
    step = end_of(root)
    metrics = attempt_of(root, step).metrics
    lines = metrics.read_text().splitlines()
    assert '"kind":"train"' in lines[0] and '"kind":"validation"' in lines[1]
    metrics.write_text("\n".join([lines[0][:30] + lines[1], *lines[2:]]) + "\n")
    found = load(root, "demo")
    assert left_out(found, step.fingerprint) == {"damaged_lines": 1, "altered_files": 1}
    assert len(found.curves) == len(load(cosine, "demo").curves) - 1


def test_rows_that_were_deleted_whole_are_missed(cosine: Path, tmp_path: Path) -> None:
    root = shutil.copytree(cosine, tmp_path / "store")
    step = end_of(root)
    metrics = attempt_of(root, step).metrics
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[4:]))
    assert missing(load(root, "demo")) == {("end", "altered files"): 1}


def test_the_line_that_is_being_written_is_no_damage_and_one_before_it_is(cosine: Path, tmp_path: Path) -> None:
    root = shutil.copytree(cosine, tmp_path / "store")
    step = end_of(root)
    attempt = attempt_of(root, step)
    Layout(root).stage(step.kind, step.fingerprint).result.unlink()
    text = attempt.metrics.read_text()
    last = text.splitlines()[-1]
    for damage, counted in ((last[:25], {}), (last[:25] + "\n", {"damaged_lines": 1})):
        attempt.metrics.write_text(text + damage)
        assert left_out(load(root, "demo"), step.fingerprint) == counted
    attempt.metrics.unlink()  # the attempt has just begun
    assert left_out(load(root, "demo"), step.fingerprint) == {}


def test_a_trunk_whose_middle_is_gone_is_drawn_as_far_as_it_is_there(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path, arms=(SCRATCH,), domains=("web",), seeds=1).build()
    whole = load(root, "demo")
    trunk = sorted((s for s in whole.plan.trials[0].path if s.role == "trunk"), key=lambda s: s.tokens)
    shutil.rmtree(Layout(root).stage("pretrain", trunk[1].fingerprint).path)
    found = load(root, "demo")
    assert missing(found) == {("trunk", "absent"): 1, ("trunk", "lost attempts"): 1}
    assert found.trials["status"].iloc[0] == "scored", "its annealed ends are all there"
    drawn = found.curves[~found.curves["scored"]]
    assert min(drawn["tokens"]) > trunk[1].tokens and max(drawn["tokens"]) == max(whole.curves.loc[
        ~whole.curves["scored"], "tokens"])


def test_records_of_several_schema_versions_are_read_together(cosine: Path, tmp_path: Path) -> None:
    root = shutil.copytree(cosine, tmp_path / "store")
    stage = Layout(root).stage("pretrain", end_of(root).fingerprint)
    stage.result.write_text('{"attempt":1,"scores":{}}')  # version 0: no files, status, checksum or version
    assert pd.DataFrame(load(root, "demo").curves).equals(load(cosine, "demo").curves)


def test_a_store_that_is_written_to_is_read_at_any_moment(cosine: Path, tmp_path: Path) -> None:
    """Each prefix of what a job writes, byte by byte around a line's end, gives a prefix of the curve."""
    root = shutil.copytree(cosine, tmp_path / "store")
    step = end_of(root)
    Layout(root).stage(step.kind, step.fingerprint).result.unlink()
    metrics = attempt_of(root, step).metrics
    data, known = metrics.read_bytes(), -1
    line = data.index(b"\n", len(data) // 2)
    for length in range(line - 5, line + 5):
        metrics.write_bytes(data[:length])
        found = load(root, "demo")
        assert len(found.curves) >= known and left_out(found, step.fingerprint) == {}
        assert not found.curves["scored"].any()
        known = len(found.curves)
