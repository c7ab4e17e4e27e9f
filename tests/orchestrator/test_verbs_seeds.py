"""`seeds`: only the bytes that change do, whatever the file looks like; what cannot be edited is refused untouched."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.plan import make_plan
from sweeps.errors import UsageError
from sweeps.language.edit import with_more_seeds
from sweeps.language.read import parse
from sweeps.language.spec import Overrides
from tests.orchestrator.verb_stores import SHIPPED, answer, called, run

BLOCK = """axes:
  seed:      # three of them
    - 0      # the first
    - 1
  # after them
  domain: [web]
"""


@pytest.mark.parametrize(("before", "after"), [
    ("axes: {seed: [0, 1], domain: [web]}\n", "axes: {seed: [0, 1, 2, 3], domain: [web]}\n"),
    ("axes:\n  seed: [0,   1]   # why\n", "axes:\n  seed: [0,   1, 2, 3]   # why\n"),
    ("axes:\n  seed: [0, 1,]\n", "axes:\n  seed: [0, 1, 2, 3,]\n"),
    ("axes:\n  seed: [\n    0,  # a\n    1   # b\n  ]\n", "axes:\n  seed: [\n    0,  # a\n    1, 2, 3   # b\n  ]\n"),
    ("axes:\r\n  seed: [0, 1]\r\n", "axes:\r\n  seed: [0, 1, 2, 3]\r\n"),
    ("axes:\r\n  seed:\r\n  - 0\r\n  - 1\r\n", "axes:\r\n  seed:\r\n  - 0\r\n  - 1\r\n  - 2\r\n  - 3\r\n"),
    ("axes:\n  seed:\n  - 0\n  - 1", "axes:\n  seed:\n  - 0\n  - 1\n  - 2\n  - 3"),
    ("# ünïcödé\naxes: {'seed': [0, 1]}\n", "# ünïcödé\naxes: {'seed': [0, 1, 2, 3]}\n"),
    (BLOCK, BLOCK.replace("    - 1\n", "    - 1\n    - 2\n    - 3\n")),
], ids=["flow", "comment", "comma", "flow over lines", "crlf", "crlf block", "no last newline", "quoted", "block"])
def test_everything_but_the_new_seeds_stays_as_it_was(before: str, after: str) -> None:
    assert with_more_seeds(before, [2, 3], "f") == after
    assert parse(after, "f").values["axes"]["seed"] == [0, 1, 2, 3]


@pytest.mark.parametrize("text", [
    "x: &s [0, 1]\naxes: {seed: *s}\n",
    "axes: {seed: &s [0, 1], other: *s}\n",
    "base: &b {seed: [0, 1]}\naxes:\n  <<: *b\n  domain: [web]\n",
    "base: &b {seed: [0, 1]}\naxes: *b\n",
    "axes: {seed: []}\n",
], ids=["alias", "anchor", "merge", "alias of the axes", "empty"])
def test_what_an_edit_could_change_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="anchor|seed"):
        with_more_seeds(text, [2], "f")


@pytest.fixture
def smoke(tmp_path: Path) -> Path:
    path = tmp_path / "a folder" / "smoke.yaml"
    path.parent.mkdir()
    path.write_text((SHIPPED / "smoke.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    path.chmod(0o640)
    return path


def test_two_more_seeds_are_written_counted_and_shown(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = smoke.read_text(encoding="utf-8")
    new = make_plan(smoke, Overrides(seeds="4"), smoke.parent)
    old = make_plan(smoke, Overrides(), smoke.parent)
    code, text, _ = called(capsys, "seeds", "+2", smoke, "--root", smoke.parent)
    assert code == 0 and "- seed: [0, 1]" in text and "+ seed: [0, 1, 2, 3]" in text
    stages = len(new.graph.nodes) - len(old.graph.nodes)
    assert f"6 trials and {stages} stages more; {stages} stages to run" in text
    assert smoke.read_text(encoding="utf-8") == before.replace("seed: [0, 1]", "seed: [0, 1, 2, 3]")
    assert smoke.stat().st_mode & 0o777 == 0o640 and [p.name for p in smoke.parent.iterdir()] == ["smoke.yaml"]


def test_a_dry_run_changes_nothing_and_says_the_same(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = smoke.read_bytes()
    told = answer(capsys, "seeds", "5", smoke, "--dry-run", "--root", smoke.parent)
    assert told["added"] == [2, 3, 4] and told["changed"] is False and told["more"]["trials"] == 9
    assert smoke.read_bytes() == before
    assert answer(capsys, "seeds", "0,1,7", smoke, "--dry-run", "--root", smoke.parent)["new"] == [0, 1, 7]


def test_finished_stages_of_new_seeds_are_not_counted_again(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = smoke.parent / "store"
    run(make_plan(smoke, Overrides(cluster="memory", seeds="3"), root))
    told = answer(capsys, "seeds", "3", smoke, "--root", root)
    assert told["more"]["stages"] > 0 and told["more"]["to_run"] == 0 and told["changed"]


def test_a_living_controller_is_named(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = smoke.parent / "store"
    run(make_plan(smoke, Overrides(cluster="memory", seeds="1"), root), steps=0, release=False)
    _, text, _ = called(capsys, "seeds", "+1", smoke, "--root", root)
    assert "old seeds; when that has ended, run it again" in text


def test_a_link_is_followed_and_stays_one(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = smoke.with_name("link.yaml")
    link.symlink_to(smoke.name)
    assert called(capsys, "seeds", "+1", link, "--root", smoke.parent)[0] == 0
    assert link.is_symlink() and "seed: [0, 1, 2]" in smoke.read_text(encoding="utf-8")


@pytest.mark.parametrize(("seeds", "said"), [
    ("1", "[1] would be removed"), ("0,5", "[1] would be removed"), ("two", "write how many more"),
    ("+-1", "write how many more"), ("0;1", "write how many more"),
])
def test_removing_seeds_and_nonsense_are_refused(
    seeds: str, said: str, smoke: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = smoke.read_bytes()
    code, _, err = called(capsys, "seeds", seeds, smoke, "--root", smoke.parent)
    assert code == 2 and said in err and smoke.read_bytes() == before


def test_seeds_that_are_there_already_change_nothing(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = smoke.stat().st_mtime_ns
    code, text, _ = called(capsys, "seeds", "2", smoke, "--root", smoke.parent)
    assert code == 0 and "nothing to add" in text and smoke.stat().st_mtime_ns == before
