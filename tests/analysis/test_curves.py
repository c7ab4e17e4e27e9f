"""Anybody's loss curves: the published figures, what must not change an answer, and files that cannot be used."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.convergence import Curve, compare
from analysis.curve_text import curve_text
from analysis.curves import KEYS, rows, study_of
from analysis.report import curves_report
from analysis.study import ENDS_EARLY
from orchestrator.__main__ import main
from sweeps.errors import UsageError
from tests.analysis.conftest import RELAXED
from tests.analysis.test_convergence import PUBLISHED

HEADER = ("panel", "upstream", "tokens", "val_loss")
Line = Sequence[object]
TWO: tuple[Line, ...] = (("owt", "scratch", 100, 3.0), ("owt", "scratch", 200, 2.0),
                         ("owt", "nca", 100, 2.5), ("owt", "nca", 200, 1.5))
Write = Callable[..., Path]
Captured = pytest.CaptureFixture[str]


def write(path: Path, lines: Sequence[Line], header: Sequence[str] = HEADER) -> Path:
    """Write a file of curves."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([header, *lines])
    return path


@pytest.fixture
def curves(tmp_path: Path) -> Write:
    """Writes a file of curves."""
    return lambda lines, header=HEADER: write(tmp_path / "curves.csv", lines, header)


def row_of(path: Path, upstream: str = "nca", panel: str = "owt", tokens: int | None = 0) -> dict[str, Any]:
    """The JSON row of one arm."""
    return next(r for r in rows(study_of(path, "scratch", tokens)[0])
                if (r["panel"], r["upstream"]) == (panel, upstream))


def test_the_published_figures_to_four_digits(capsys: Captured) -> None:
    argv = ["report", "--curves", str(PUBLISHED), "--baseline", "scratch", "--upstream-tokens", "164M", "--json"]
    assert main(argv) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema_version"] == 1 and [tuple(r) for r in answer["rows"]] == [KEYS] * 4
    scratch, c4, dyck, nca = (next(r for r in answer["rows"] if r["upstream"] == u)
                              for u in ("scratch", "c4", "dyck", "nca"))
    said = [f"{nca[n]:.4f}" for n in ("gain_percent", "speedup", "speedup_at_end", "charged_speedup")]
    assert said == ["5.7293", "1.4724", "1.4898", "1.4336"]
    assert [f"{dyck[n]:.4f}" for n in ("gain_percent", "speedup", "speedup_at_end")] == ["2.0643", "1.2393", "1.2539"]
    assert c4["censored"] and c4["speedup"] is None and f"{c4['speedup_bound']:.4f}" == "0.9884"
    assert all(c4[n] is None for n in ("charged_speedup", "speedup_at_end", "token_saving", "mrs"))
    assert nca["flat_tail"] and nca["n_seeds"] == 1 and nca["speedup_bound"] is None
    assert (scratch["gain_nats"], scratch["speedup"], scratch["mrs"]) == (0, 1, None)
    assert scratch["final_perplexity"] == pytest.approx(math.exp(2.685))


def test_hand_values(curves: Write) -> None:
    row = row_of(curves(TWO), tokens=30)
    assert row["gain_nats"] == 0.5 and row["final_perplexity"] == pytest.approx(math.exp(1.5))
    assert (row["speedup"], row["charged_speedup"]) == (pytest.approx(200 / 150), pytest.approx(200 / 180))
    assert (row["token_saving"], row["mrs"]) == (pytest.approx(0.1), pytest.approx(50 / 30))


def test_order_case_spaces_units_repeats_and_other_columns_change_nothing(curves: Write) -> None:
    plain = row_of(curves(TWO), tokens=30)
    lines = [(" owt", "nca ", "2e2", "1.5", "x"), *((*line, "y") for line in reversed(TWO)),
             ("owt", "scratch", "0.1k", 3, "")]
    path = curves(lines, (" Panel", "upstream", "Tokens", "VAL_LOSS", "wall time"))
    found, notes = study_of(path, "scratch", 30)
    assert row_of(path, tokens=30) == plain
    assert "'wall time'" in notes[0] and "2 rows stand twice" in notes[1] and len(found.trials) == 2


def test_parquet_gives_the_same_answer(curves: Write, tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pd.DataFrame(TWO, columns=list(HEADER)).to_parquet(path)
    assert row_of(path) == row_of(curves(TWO))


def test_a_baseline_on_another_grid_of_tokens_is_interpolated(curves: Write) -> None:
    lines = [("p", "scratch", 100, 3.0), ("p", "scratch", 250, 2.0), ("p", "nca", 200, 2.2), ("p", "nca", 300, 1.2)]
    row = row_of(curves(lines), panel="p")
    assert row["gain_nats"] == pytest.approx(2.0 - 1.7) and row["speedup"] == pytest.approx(250 / 220)


def test_a_curve_that_is_not_monotone_counts_at_its_first_crossing(curves: Write) -> None:
    lines = [("p", "scratch", 100, 3.0), ("p", "scratch", 150, 1.9), ("p", "scratch", 200, 2.0),
             ("p", "nca", 100, 1.9), ("p", "nca", 200, 4.0)]
    row = row_of(curves(lines), panel="p")
    own = 100 + 50 / 1.1
    assert row["flat_tail"] and not row["censored"] and row["gain_nats"] == -2
    assert (row["speedup"], row["speedup_at_end"]) == (pytest.approx(own / 100), pytest.approx(2))


def test_one_point_each_and_an_evaluation_at_no_tokens(curves: Write) -> None:
    row = row_of(curves([("p", "scratch", 100, 3.0), ("p", "nca", 100, 2.0)]), panel="p")
    assert (row["gain_nats"], row["speedup"], row["flat_tail"]) == (1, 1, False)
    row = row_of(curves([("p", "scratch", 0, 9), ("p", "scratch", 100, 3.0), ("p", "nca", 0, 2.0)]), panel="p")
    assert row["speedup"] is None and row["gain_nats"] is None and not row["censored"]


def test_an_arm_that_ends_early_has_no_gain_but_its_crossing_counts(curves: Write) -> None:
    lines = [*TWO[:2], ("owt", "nca", 100, 2.5), ("owt", "nca", 180, 1.9), ("owt", "short", 150, 2.5)]
    path = curves(lines)
    assert row_of(path)["gain_nats"] is None and row_of(path)["speedup"] > 1
    short = row_of(path, "short")
    assert short["censored"] and short["speedup_bound"] == pytest.approx(200 / 150)


SEEDED = (*HEADER, "seed")


def test_seeds_are_paired_and_a_censored_one_is_never_dropped(curves: Write) -> None:
    lines = [(*line, seed) for seed in (0, 1, 2) for line in TWO]
    mean = row_of(curves([*lines[:-1], ("owt", "nca", 200, 1.4, 2)], SEEDED))
    assert mean["n_seeds"] == 3 and mean["gain_nats"] == pytest.approx((0.5 + 0.5 + 0.6) / 3)
    assert mean["speedup"] == pytest.approx(math.exp((2 * math.log(200 / 150) + math.log(200 / (100 + 50 / 1.1))) / 3))
    censored = row_of(curves([*lines[:-1], ("owt", "nca", 200, 2.1, 2)], SEEDED))
    assert censored["censored"] and censored["speedup"] is None
    assert censored["speedup_bound"] == pytest.approx((4 / 3) ** (2 / 3)), "two seeds have 4/3, the third at most 1"
    assert censored["gain_nats"] == pytest.approx((0.5 + 0.5 - 0.1) / 3)


def test_a_diverged_seed_is_counted_and_never_scored(curves: Write) -> None:
    lines = [*((*line, seed) for seed in (0, 1) for line in TWO), *((*line, 2) for line in TWO[:2]),
             ("owt", "nca", 100, "nan", 2)]
    path = curves(lines, SEEDED)
    found, notes = study_of(path, "scratch", 0)
    assert row_of(path)["n_seeds"] == 2 and found.counts("owt", "nca")["diverged"] == 1
    assert notes == [f"{path}: line 12: val_loss is not finite, so 'nca' in 'owt', seed 2, diverged: counted, never "
                     "scored"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_loss_of_nan_as_pandas_writes_it_is_a_run_that_diverged(suffix: str, tmp_path: Path) -> None:
    lines = [(*line, seed) for seed in (0, 1) for line in TWO]
    frame = pd.DataFrame([*lines[:-1], ("owt", "nca", 200, None, 1)], columns=list(SEEDED))
    path = tmp_path / f"c.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    found, notes = study_of(path, "scratch", 0)
    assert found.counts("owt", "nca")["diverged"] == 1 and row_of(path)["n_seeds"] == 1
    assert f"1 rows have no val_loss, the first of them line {9 if suffix == 'csv' else 8}: read as nan" in notes[0]


def test_one_seed_short_of_t_b_reads_the_same_everywhere(curves: Write, tmp_path: Path, capsys: Captured) -> None:
    """It has no gain, and is censored where it ends above L*: never dropped from the speed-up of the others."""
    lines = [(*line, seed) for seed in range(4) for line in TWO]
    path = curves([*lines[:-1], ("owt", "nca", 150, 2.2, 3)], SEEDED)
    assert main(["report", "--curves", str(path), "--upstream-tokens", "0", "--json", "--out", str(tmp_path)]) == 0
    answer = json.loads(capsys.readouterr().out)
    table = pd.read_csv(tmp_path / "tables" / "convergence.csv").set_index("arm").loc["nca"]
    row, text = answer["rows"][1], curve_text(study_of(path, "scratch", 0)[0])
    bound = ((4 / 3) ** 3 * (200 / 150)) ** (1 / 4)
    assert (row["gain_nats"], row["n_seeds"], row["censored"], row["speedup"]) == (0.5, 4, True, None)
    assert row["final_perplexity"] == pytest.approx(math.exp(1.5)) and row["speedup_bound"] == pytest.approx(bound)
    assert (table["gain_nats"], table["seeds"], table["crossings"], table["censored"]) == (0.5, 3, 4, 1)
    assert math.isnan(table["speedup"]) and table["speedup_bound"] == pytest.approx(bound, abs=1e-5)
    assert "open below" in table["speedup_note"] and math.isnan(table["speedup_low"])
    line = next(line for line in text.splitlines() if line.startswith("nca")).split()
    assert line[3:5] == ["+0.500", f"<{bound:.4f}"] and line[-1] == "3/4"
    assert answer["left_out"] == [{"panel": "owt", "upstream": "nca", "seed": 3, "why": ENDS_EARLY}]


def test_no_bound_where_another_seed_has_only_a_lower_one(curves: Write) -> None:
    lines = [*((*line, seed) for seed in (0, 1) for line in TWO[:2]), ("owt", "nca", 150, 1.9, 0),
             ("owt", "nca", 200, 2.5, 1)]
    row = row_of(curves(lines, SEEDED))
    assert row["censored"] and row["speedup"] is None and row["speedup_bound"] is None


def test_a_seed_without_a_baseline_is_missing(curves: Write) -> None:
    lines = [*((*line, 0) for line in TWO), ("owt", "nca", 200, 1.0, 7)]
    found, _ = study_of(curves(lines, SEEDED), "scratch", 0)
    assert rows(found)[1]["n_seeds"] == 1 and set(found.pairs["status"]) == {"scored", "baseline absent"}


def test_upstream_tokens_of_each_arm(curves: Write) -> None:
    lines = [(*TWO[0], ""), (*TWO[1], ""), (*TWO[2], "50"), (*TWO[3], "")]
    assert row_of(curves(lines, (*HEADER, "upstream_tokens")), tokens=None)["charged_speedup"] == pytest.approx(1)


BAD: dict[str, tuple[Sequence[Line], Sequence[str], str | None, list[str]]] = {
    "values": ([*TWO, ("owt", "nca", "-5", 1), ("", "nca", 300, "x"), ("owt", "nca", "1.6Q", "-")], HEADER, "0", [
        "curves.csv:6: tokens = '-5': tokens lie between 0", "curves.csv:7: panel = '': is empty",
        "curves.csv:7: val_loss = 'x': is no number", "curves.csv:8: tokens = '1.6Q': not an amount",
        "curves.csv:8: val_loss = '-': is no number"]),
    "contradiction": ([*TWO, ("owt", "nca", 200, 1.6)], HEADER, "0", [
        "curves.csv:6: val_loss = 1.6: line 5 has 1.5", "tell runs apart by a column seed"]),
    "columns": ([(1, 2, 3)], ("panel", "arm", "tokens"), "0", [
        "curves.csv:1: upstream: this column is missing", "curves.csv:1: val_loss: this column is missing"]),
    "twice": ([(1, 2, 3, 4, 5)], (*HEADER, "Tokens"), "0", ["curves.csv:1: tokens: this column stands twice"]),
    "ragged": ([*TWO, ("owt", "nca", 1, 2, 3)], HEADER, "0", ["curves.csv:6: row: has 5 values"]),
    "no baseline": ([*TWO, ("math", "Scratch", 1, 2)], HEADER, "0", [
        "panel 'math' has no such baseline", "known: Scratch. Did you mean 'Scratch'?"]),
    "nothing": ([], HEADER, "0", ["has no rows"]),
    "one column": ([(1,)], ("tokens",), "0", ["is no header; write panel,upstream,tokens,val_loss"]),
    "seed": ([(*TWO[0], "a")], SEEDED, "0", ["curves.csv:2: seed = 'a': a seed is a whole number"]),
    "upstream tokens": (TWO, HEADER, None, ["unknown of 'nca'; say --upstream-tokens 164M (0: there were none)"]),
    "flag": (TWO, HEADER, "164m", ["--upstream-tokens 164m: not an amount", "Did you mean '164M'?"]),
    "two charges": ([(*TWO[0], 0), (*TWO[1], 0), (*TWO[2], 7), (*TWO[3], 8)], (*HEADER, "upstream_tokens"), "0", [
        "curves.csv:5: upstream_tokens = 8: is 7 on another line"]),
    "baseline at 0": ([("p", "scratch", 0, 3), ("p", "nca", 1, 3)], HEADER, "0", ["nothing to compare"]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_with_a_file_is_said_with_line_column_and_value(
    case: str, curves: Write, capsys: Captured
) -> None:
    lines, header, tokens, said = BAD[case]
    flag = [] if tokens is None else ["--upstream-tokens", tokens]
    assert main(["report", "--curves", str(curves(lines, header)), "--json", *flag]) == 2
    printed = capsys.readouterr()
    assert not printed.out and "Traceback" not in printed.err
    assert [s for s in said if s not in printed.err] == [], printed.err


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'panel,upstream,tokens,val_loss\n"a,b', b"\x00"])
def test_what_is_no_csv_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(UsageError):
        study_of(tmp_path / "c.csv", "scratch", 0)


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", ".", "c.parquet"])
def test_a_file_that_is_not_there_or_no_parquet_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "c.parquet").write_text("PAR1")
    with pytest.raises(UsageError, match=name):
        study_of(tmp_path / name, "scratch", 0)


def test_a_thousand_problems_are_counted_not_printed(curves: Write) -> None:
    with pytest.raises(UsageError, match="has 980 more problems"):
        study_of(curves([("p", "scratch", t, "x") for t in range(1, 1001)]), "scratch", 0)


def test_flags_that_exclude_each_other(curves: Write, capsys: Captured) -> None:
    path = str(curves(TWO))
    for argv in ([], ["smoke", "--curves", path], ["--curves", path, "--seeds", "3"], ["smoke", "--baseline", "x"]):
        assert main(["report", *argv]) == 2
    assert "one of the two" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["csv", "PQ"])
def test_one_table_of_a_file(suffix: str, curves: Write, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / f"c.{suffix}"
    if suffix == "csv":
        curves(TWO).rename(path)
    else:
        pd.DataFrame(TWO, columns=list(HEADER)).to_parquet(path)
    assert main(["table", "convergence", str(path), "--upstream-tokens", "30", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rows"][1]
    assert (found["arm"], found["gain_nats"], found["charged_speedup"]) == ("nca", 0.5, pytest.approx(200 / 180))
    assert main(["table", "convergence", str(path), "--baseline", "nca", "--upstream-tokens", "0"]) == 0
    assert "scratch" in capsys.readouterr().out
    assert main(["table", "convergence", str(path)]) == 2 and "--upstream-tokens 164M" in capsys.readouterr().err
    assert main(["table", "convergence", "smoke", "--baseline", "x"]) == 2
    assert "belong to curves" in capsys.readouterr().err


def test_an_overlay_without_a_folder_is_drawn_nowhere_and_that_is_said(curves: Write, capsys: Captured) -> None:
    assert main(["report", "--curves", str(curves(TWO)), "--upstream-tokens", "0", "--overlay", "published"]) == 0
    assert "--overlay is drawn in figures only; for the tables, figures" in capsys.readouterr().err


HOSTILE = '=cmd|"/c calc"!A1 <script>alert(1)</script> $x_{ \x1b[31m'


def test_hostile_names_and_several_panels_reach_page_tables_and_terminal_as_text(
    curves: Write, tmp_path: Path, capsys: Captured
) -> None:
    lines = [(panel, {"nca": HOSTILE}.get(str(u), u), t, loss) for panel in ("a\nb", HOSTILE) for _, u, t, loss in TWO]
    assert main(["report", "--curves", str(curves(lines)), "--upstream-tokens", "0", "--out", str(tmp_path / "o")]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and printed.isascii() and max(map(len, printed.splitlines())) <= 80
    page = (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "&lt;script" in page
    assert len(list((tmp_path / "o" / "figures").glob("*.svg"))) >= 4


def test_the_page_and_tables_of_the_published_curves(tmp_path: Path) -> None:
    found, _ = study_of(PUBLISHED, "scratch", 164_000_000)
    page = curves_report(found, tmp_path)
    assert page.stat().st_size < 2_000_000 and "Validation loss" in page.read_text(encoding="utf-8")
    table = pd.read_csv(tmp_path / "tables" / "convergence.csv").set_index("arm")
    assert table.loc["nca", "charged_speedup"] == pytest.approx(1.4336, abs=1e-4)
    assert {p.stem for p in (tmp_path / "figures").iterdir()} == {
        "drawn", "gain_by_band-0", "loss_curves-0", "speedup_over_target-0"}


points = st.lists(st.tuples(st.integers(0, 40), st.integers(1000, 9000)), min_size=1, max_size=8,
                  unique_by=lambda p: p[0]).filter(lambda p: max(t for t, _ in p) > 0)


@RELAXED
@given(points, points, st.integers(0, 9), st.randoms())
def test_a_file_says_what_its_curves_say(
    tmp_path_factory: pytest.TempPathFactory, baseline: list[tuple[int, int]], arm: list[tuple[int, int]],
    charged: int, random: Any,
) -> None:
    """Any curves, in any order: the JSON row is `compare` of the two, and holds no number that JSON has not."""
    lines = [("p", u, t, loss / 1000) for u, run in (("scratch", baseline), ("nca", arm)) for t, loss in run]
    random.shuffle(lines)
    row = row_of(write(tmp_path_factory.mktemp("any") / "c.csv", lines), panel="p", tokens=charged)
    own, other = (Curve.of((t, loss / 1000) for t, loss in run) for run in (baseline, arm))
    direct = compare(own, other, charged)
    json.dumps(row, allow_nan=False)
    for key in ("gain_nats", "speedup", "charged_speedup", "token_saving", "mrs", "speedup_bound", "speedup_at_end"):
        expected = getattr(direct, key)
        assert row[key] == (pytest.approx(expected) if np.isfinite(expected) else None), key
    assert (row["censored"], row["flat_tail"]) == (direct.censored, direct.flat_tail)
