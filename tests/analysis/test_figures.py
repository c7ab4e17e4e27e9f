"""Figures: the same bytes in every format, what each of them shows, and when it has nothing to show."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.drawing import FORMATS, spelt
from analysis.figures import registry, write_figures
from analysis.figures.timeline import MOST, _merged, _thinned
from analysis.heat import COLOURS, ink_on, luminance
from analysis.jobs import jobs
from analysis.load import read_plan
from analysis.study import Study, study
from sweeps.store import files
from sweeps.store.layout import Layout
from sweeps.store.records import open_attempt
from tests.analysis.conftest import ARMS, RELAXED, SCRATCH, Arm, SweepBuilder

NAMES = ["band_by_domain", "budget_curves", "downstream_forest", "gain_by_band", "loss_curves", "speedup_over_target",
         "timeline", "transfer_matrix"]


def drawn(study: Study, name: str) -> str:
    """Return the SVG of a figure's only drawing."""
    (drawing,) = registry()[name].build(study)
    return drawing.svg


def test_every_figure_states_itself() -> None:
    assert list(registry()) == NAMES
    assert all(p.title and p.caption and p.absent and not p.absent.endswith(".") for p in registry().values())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SweepBuilder(tmp_path_factory.mktemp("small"), arms=(SCRATCH, ARMS[3]), domains=("web",)).build()


def test_figures_have_the_same_bytes_in_every_format_and_no_date(small: Path, tmp_path: Path) -> None:
    first, second = (write_figures(small, "demo", tmp_path / n) for n in "ab")
    assert [p.name for p in first] == [p.name for p in second]
    assert len(first) == 3 * len({p.stem for p in first}) and {p.suffix for p in first} == {f".{k}" for k in FORMATS}
    for a, b in zip(first, second, strict=True):
        content = a.read_bytes()
        assert content == b.read_bytes() and content[:5] in (b"<?xml", b"%PDF-", b"\x89PNG\r")
        assert not any(word in content for word in (b"CreationDate", b"<dc:date>", b"Matplotlib v", b"#010203"))
        if a.suffix == ".svg":
            ET.fromstring(content)
            assert b"<desc" in content and b"style" not in content


@pytest.mark.slow
def test_another_process_makes_the_same_bytes(small: Path, tmp_path: Path) -> None:
    for seed in "12":
        code = ("import sys, pathlib; from analysis.figures import write_figures; "
                "write_figures(pathlib.Path(sys.argv[1]), 'demo', pathlib.Path(sys.argv[2]))")
        subprocess.run([sys.executable, "-c", code, str(small), str(tmp_path / seed)], check=True,
                       env={**os.environ, "PYTHONHASHSEED": seed})
    names = sorted(p.name for p in (tmp_path / "1").iterdir())
    assert names and all((tmp_path / "1" / n).read_bytes() == (tmp_path / "2" / n).read_bytes() for n in names)


NAMED = "nca \u4e2d\u6587 \U0001f40d"


def test_a_name_in_any_script_is_whole_in_an_svg_and_spelt_where_the_font_lacks_it(tmp_path: Path) -> None:
    """Warnings are errors here: none is given."""
    arms = (SCRATCH, Arm(name=NAMED, upstream="nca", gain=0.05))
    root = SweepBuilder(tmp_path, arms=arms, domains=("\u6570\u5b66",)).build()
    for name in ("gain_by_band", "loss_curves"):
        (drawing,) = registry()[name].build(study(root, "demo"))
        assert NAMED in drawing.svg and "\u6570\u5b66" in drawing.svg
        ascii_only = replace(drawing, data=spelt(drawing.data, ()))
        assert r"nca \u4e2d\u6587 \U0001f40d" in repr(ascii_only.data).replace("\\\\", "\\")
        for kind in ("pdf", "png"):
            assert drawing.file(kind) == ascii_only.file(kind)


def test_what_the_font_has_stays_and_long_names_are_spelt_in_short() -> None:
    known = {ord("\u03b1")}
    assert spelt({"a\u03b1": ["\u4e2d", (1.0, None)]}, known) == {"a\u03b1": [r"\u4e2d", (1.0, None)]}
    assert spelt("\u4e00\u4e8c\u4e09\u56db", known) == r"\u4e00\u4e8c\u4e09\u56db"
    assert spelt("x \u4e00\u4e8c\u4e09\u56db\u4e94 y", known) == r"x \u4e00\u4e8c...\u4e94 y"


def test_bands_by_domains_are_a_matrix_with_each_cells_interval(demo_study: Study) -> None:
    text = drawn(demo_study, "band_by_domain")
    for domain in demo_study.records.domains:
        for arm in ("nca 30-45", "nca 60-75"):
            effect = demo_study.effect(domain, arm)
            assert f"{effect.mean:+.3f}" in text and f"[{effect.low:+.3f}, {effect.high:+.3f}]" in text
    assert "shuffle_dyck" not in text, "it has no band"


@RELAXED
@given(st.floats(0, 1))
def test_text_on_a_matrix_is_readable_on_every_colour(value: float) -> None:
    colour = mpl.colormaps[COLOURS](value)
    lights = sorted((luminance(colour), 1.0 if ink_on(colour) == "#ffffff" else 0.0))
    assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5


def test_lighter_is_better_also_in_grey() -> None:
    light = [luminance(mpl.colormaps[COLOURS](k / 50)) for k in range(51)]
    assert light == sorted(light)


def test_budgets_of_one_upstream_are_one_line(tmp_path: Path) -> None:
    budgets = tuple(Arm(name=f"nca 30-45 {k}x", upstream="nca", complexity="30-45", tokens=k * 100_000, gain=0.02 * k)
                    for k in (1, 4))
    root = SweepBuilder(tmp_path, arms=(SCRATCH, *budgets, ARMS[2]), domains=("web",)).build()
    text = drawn(study(root, "demo"), "budget_curves")
    assert "100k" in text and "400k" in text and text.count(">nca 30-45<") == 1 and "shuffle_dyck" not in text


def test_what_is_carried_over_is_a_matrix(tmp_path: Path) -> None:
    arms = tuple(Arm(name=f"nca reinit={'+'.join(parts) or 'nothing'} rescale={rescale}", upstream="nca", gain=0.03,
                     fields={"transfer.reinit": parts, "transfer.rescale": rescale})
                 for parts in ([], ["attention"], ["mlp", "norm"]) for rescale in (False, True))
    root = SweepBuilder(tmp_path, arms=(SCRATCH, *arms), domains=("web",)).build()
    text = drawn(study(root, "demo"), "transfer_matrix")
    assert all(f">{name}<" in text for name in ("nothing", "attention", "mlp+norm", "nca, rescale False"))
    assert text.count("[+") + text.count("[-") >= 6


def test_only_figures_with_records_are_drawn(demo_study: Study) -> None:
    found = {name for name, plugin in registry().items() if plugin.build(replace(demo_study, root=None))}
    assert found == {"band_by_domain", "gain_by_band", "loss_curves", "speedup_over_target"}


# -- the time line -----------------------------------------------------------------------------------------------------


def test_attempts_are_told_apart_by_how_they_ended(tmp_path: Path) -> None:
    def fate(trial: str, role: str, tokens: int) -> str:
        return "started" if role == "evaluate" else "diverged" if role == "end" else "done"

    root = SweepBuilder(tmp_path, arms=(SCRATCH,), domains=("web",), seeds=1, fate=fate).build()
    plan = read_plan(root, "demo")
    corpus = next(s for s in plan.stages if s.kind == "corpus")
    stage = Layout(root).stage("corpus", corpus.fingerprint)
    for number, left in ((2, "failure"), (3, "stopped"), (4, "")):
        attempt = open_attempt(stage, {"sweep": "demo"})
        assert attempt.folder.number == number
        if left:
            files.create(getattr(attempt.folder, left), "{}")
        attempt.close()
    open_attempt(stage, {"sweep": "other"}).close()
    found = jobs(root, plan)
    ends = {(j.kind, j.attempt): j.outcome for j in found}
    assert [ends["corpus", n] for n in (1, 2, 3, 4)] == ["done", "failed", "interrupted", "interrupted"]
    assert ("corpus", 5) not in ends, "another sweep's"
    assert ends["pretrain", 1] in ("done", "diverged") and "open" in ends.values() and "diverged" in ends.values()
    assert all(j.ended >= j.began for j in found) and [j.began for j in found] == sorted(j.began for j in found)
    text = drawn(study(root, "demo"), "timeline")
    assert all(f">{word}<" in text for word in ("corpus", "pretrain", "failed", "interrupted", "diverged", "open"))
    assert "1 failed" in text, "for who cannot see it"


def test_bars_that_a_screen_cannot_part_are_one() -> None:
    lane = [(float(k), k + 0.9, "done") for k in range(5_000)] + [(5_000.0, 5_001.0, "failed")]
    kept = _thinned({"pretrain": [lane]}, 5_001.0)["pretrain"][0]
    assert len(kept) <= MOST and kept[0][0] == 0 and kept[-1] == lane[-1], "what failed stays"
    assert _merged([(0.0, 1.0, "done"), (1.1, 2.0, "done"), (9.0, 10.0, "done")], 1.0) == [
        (0.0, 2.0, "done"), (9.0, 10.0, "done")]
