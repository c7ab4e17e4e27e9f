"""`show upstream` and `show bank`: text, colours, JSON, pictures, and what they refuse."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from orchestrator.__main__ import main
from orchestrator.showing import bars, counts
from sweeps.store.layout import Layout
from sweeps.store.records import open_attempt
from tests.orchestrator.verb_stores import answer, called, content
from workloads.registry import load_registries
from workloads.upstreams.nca.science import NcaScience, bank_fields
from workloads.upstreams.nca.source import make_source
from workloads.upstreams.shuffle_dyck import ShuffleDyckScience, spell

Captured = pytest.CaptureFixture[str]
FINGERPRINT = "3fa94c1b00112233"
OWN = """
import numpy as np
from sweeps.language.plugins import Science, Upstream
from workloads.contract import SequenceBatch

class Fields(Science):
    start: int = 5

class Source:
    vocabulary, sequence_length, period = 1000, 6, None
    def __init__(self, start): self.start = start
    def sequences(self, index):
        tokens = (self.start + index[:, None] + np.arange(6)).astype(np.int32)
        return SequenceBatch(tokens_BT=tokens, target_BT=tokens > 0)

def make(science, *, seed, stream, sequence_length, banks):
    return Source(science.start + 100 * seed)

def frames(science, tokens):
    return (tokens % 2).reshape(len(tokens), 3, 1, 2).astype(np.int64)

PLUGIN = Upstream(science=Fields, revision=1, implementation=":make", frames_implementation=":frames",
                  vocabulary=lambda science: 1000)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one finished bank of 40 rules, and a stage that is none."""
    root = tmp_path_factory.mktemp("store")
    science = NcaScience.model_validate({"states": 4, "grid": {"height": 8, "width": 8}})
    stage = Layout(root).stage("rules", FINGERPRINT)
    attempt = open_attempt(stage, {})
    scores = load_registries().upstreams["nca"].load_bank()(
        bank_fields(science), seed=3, stream="train", first=0, count=40, folder=attempt.artifacts,
        progress=lambda done: False)
    attempt.commit(scores)
    attempt.close()
    for kind, key in (("rules", "aaaa111122223333"), ("corpus", "bbbb111122223333")):
        Layout(root).stage(kind, key).path.mkdir(parents=True)
    return root


# -- upstreams ---------------------------------------------------------------------------------------------------------


def test_an_upstream_with_bands_shows_scores_a_histogram_and_tokens_within_80_columns(capsys: Captured) -> None:
    code, text, _ = called(capsys, "show", "upstream", "nca", "--complexity", "30-45,60-75")
    assert code == 0
    assert "nca 30-45 % normalized (raw " in text and "nca 60-75 % normalized (raw " in text
    assert "random rules" in text and "tokens of sequence 0 (256; 64 more):" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text, "a pipe gets no colour"


def test_what_is_shown_is_what_a_sweep_trains_on(store: Path, capsys: Captured) -> None:
    shown = answer(capsys, "show", "upstream", "nca", "--rules", 5, "--seed", 3)["bands"][0]
    science = NcaScience.model_validate(shown["fields"])
    [bank] = (store / "stages" / "rules" / FINGERPRINT).glob("attempts/*/artifacts")
    source = make_source(science, seed=3, stream="train", sequence_length=256, banks=[bank])
    assert shown["tokens"] == source.sequences(np.arange(1)).tokens_BT[0].tolist()
    assert (shown["vocabulary"], shown["sequence_length"], len(shown["scores_percent"])) == (258, 256, 5)
    assert all(60 < score < 75 for score in shown["scores_percent"])
    assert sum(shown["survey"]["histogram"]) == shown["survey"]["candidates"] == 256


def test_scale_protocol_set_and_seed_are_those_of_a_sweep(capsys: Captured) -> None:
    shown = answer(capsys, "show", "upstream", "nca", "--rules", 1, "--protocol", "paper", "--scale", "tiny",
                   "--complexity", "20-40", "--set", "nca.temperature=0.5")["bands"][0]["fields"]
    assert (shown["temperature"], shown["initial_grid"], shown["states"]) == (0.5, "uniform", 4)
    assert shown["complexity"]["band"] == "20-40" and shown["complexity"]["scale"] == "raw"


def test_a_control_shows_the_tokens_that_it_permutes(capsys: Captured) -> None:
    plain, shuffled = (answer(capsys, "show", "upstream", name, "--rules", 1)["bands"][0]["tokens"]
                       for name in ("nca", "nca_shuffled"))
    assert plain != shuffled and sorted(plain) == sorted(shuffled)


@pytest.mark.parametrize("upstream", ["regular", "utm"])
def test_symbols_are_coloured_by_kind_and_strings_end_in_a_bar(
    upstream: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = answer(capsys, "show", "upstream", upstream, "--rules", "1")["bands"][0]
    delimiter = made["vocabulary"] - 1
    assert delimiter in made["tokens"]
    assert made["levels"] == [-1 if token == delimiter else token for token in made["tokens"]]
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = called(capsys, "show", "upstream", upstream, "--rules", "1")[1]
    assert "\x1b[" in coloured and " | " in re.sub(r"\x1b\[[0-9;]*m", "", coloured)


def test_brackets_are_coloured_by_depth_on_a_terminal_and_never_with_no_color(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ("show", "upstream", "shuffle_dyck", "--set", "shuffle_dyck.k=3")
    plain = called(capsys, *argv)[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = called(capsys, *argv)[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in plain and "\x1b[" in coloured
    assert "\x1b[3" not in called(capsys, *argv)[1] and "\x1b[9" not in called(capsys, *argv)[1]
    tokens = answer(capsys, *argv)["bands"][0]["tokens"]
    words = [word for word, _ in spell(ShuffleDyckScience(k=3), tokens[:192])]
    assert plain.split(":\n")[1].split() == words


def test_a_bracket_and_its_partner_stand_at_one_depth() -> None:
    assert spell(ShuffleDyckScience(k=2), [0, 1, 3, 1, 3, 2, 0, 2]) == [
        ("(0", 1), ("(1", 2), ("1)", 2), ("(1", 2), ("1)", 2), ("0)", 1), ("(0", 1), ("0)", 1)]


def test_a_picture_of_two_bands_is_written_where_it_was_asked_for(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "bands.png"
    shown = answer(capsys, "show", "upstream", "nca", "--complexity", "30-45,75-100", "--rules", 2, "-o", path)
    assert shown["picture"] == str(path) and [p.name for p in tmp_path.iterdir()] == ["bands.png"]
    assert path.read_bytes().startswith(b"\x89PNG") and 5_000 < path.stat().st_size < 300_000


def test_an_upstream_of_ones_own_is_shown_plain_and_drawn_row_by_row(tmp_path: Path, capsys: Captured) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN, encoding="utf-8")
    argv = ("show", "upstream", "own", "--plugin", own, "--seed", 2, "--set", "own.start=7", "-o", tmp_path / "o.png")
    code, text, said = called(capsys, *argv)
    assert code == 0, said
    assert text.splitlines()[-2] == "207 208 209 210 211 212" and (tmp_path / "o.png").stat().st_size > 500


@pytest.mark.parametrize(("argv", "said"), [
    (["ncaa"], "Did you mean 'nca'"),
    (["none"], "makes no sequences"),
    (["nca", "--complexity", "45-30"], "--complexity 45-30: axes.complexity = '45-30'"),
    (["nca", "--complexity", "30-30"], "LOW < HIGH"),
    (["nca", "--complexity", "99-100"], "ceiling"),
    (["nca", "--set", "nca.statse=4"], "Did you mean 'states'"),
    (["nca", "--set", "nca.states=1"], "greater than or equal to 2"),
    (["nca", "--set", "model.sequence_length=20"], "two frames of 18 tokens"),
    (["nca", "--set", "colour=[red]"], "unknown axis"),
    (["nca", "--scale", "tyni"], "Did you mean 'tiny'"),
    (["nca", "--protocol", "fairr"], "--protocol fairr: protocol = 'fairr'"),
    (["nca", "--seed", "-1"], "a seed is a whole number"),
    (["nca", "-o", "picture.gif"], ".png, .svg, .pdf"),
    (["nca", "-o", "nowhere/picture.png"], "folder that exists"),
    (["nca_shuffled", "--complexity", "30-45"], "has no axis complexity"),
    (["shuffle_dyck", "-o", "picture.png"], "no frames to draw"),
    (["nca", "--plugin", "nowhere.py"], "nowhere.py"),
])
def test_what_cannot_be_shown_is_refused_with_what_is_allowed(
    argv: list[str], said: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text, error = called(capsys, "show", "upstream", *argv)
    assert (code, text) == (2, "") and said in error, error
    assert not list(tmp_path.iterdir())


# -- banks -------------------------------------------------------------------------------------------------------------


def test_a_bank_is_shown_with_its_record_and_nothing_is_written(store: Path, capsys: Captured) -> None:
    before = content(store)
    code, text, _ = called(capsys, "show", "bank", FINGERPRINT[:6], "--root", store)
    assert code == 0 and content(store) == before
    for part in ("seed 3, stream train, rules 0 to 39", "states = 4", "0 duplicates", "candidates: ",
                 "inside the band 60-75 % normalized", "accepted by", "seen in training"):
        assert part in text, part
    assert max(map(len, text.splitlines())) <= 80
    printed = answer(capsys, "show", "bank", FINGERPRINT, "--root", store)
    assert printed["fingerprint"] == FINGERPRINT and sum(printed["accepted"]) == 40
    assert printed["scores"]["candidates"] >= 40 and len(printed["kernels_sha256"]) == 64


@pytest.mark.parametrize(("target", "code", "said"), [
    ("aaaa1111", 2, "is not complete"), ("bbbb1111", 2, "is a stage corpus"), ("cccc1111", 2, "no trial's id"),
])
def test_what_is_no_finished_bank_is_refused(target: str, code: int, said: str, store: Path, capsys: Captured) -> None:
    found, _, error = called(capsys, "show", "bank", target, "--root", store)
    assert found == code and said in error


def test_a_simulated_bank_is_refused(store: Path, tmp_path: Path, capsys: Captured) -> None:
    root = shutil.copytree(store, tmp_path / "store")
    Layout(root).simulated.touch()
    code, _, error = called(capsys, "show", "bank", FINGERPRINT, "--root", root)
    assert code == 2 and "simulated results" in error


def test_a_bank_that_was_changed_after_completion_is_refused(store: Path, tmp_path: Path, capsys: Captured) -> None:
    root = shutil.copytree(store, tmp_path / "store")
    [tables] = root.glob("stages/rules/*/attempts/1/artifacts/tables.npy")
    damaged = bytearray(tables.read_bytes())
    damaged[-3] ^= 1
    tables.write_bytes(damaged)
    code, _, error = called(capsys, "show", "bank", FINGERPRINT, "--root", root)
    assert code == 1 and "damaged after completion" in error


# -- histograms --------------------------------------------------------------------------------------------------------


def test_bars_mark_the_bins_that_the_band_meets_and_count_every_score() -> None:
    values = counts([3.0, 31.0, 34.9, 35.0, 120.0])
    assert values == [1, 0, 0, 0, 0, 0, 2, 1, *[0] * 11, 1]
    lines = bars([("scores", values)], 32, 40)
    assert [line[2:9].strip() for line in lines[1:] if "|" in line] == ["30-35", "35-40"]
    assert len(lines) == 21 and lines[7].endswith("# 2")


def test_help_of_both(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["show", "upstream", "--help"])
    assert ended.value.code == 0 and "--complexity" in capsys.readouterr().out
