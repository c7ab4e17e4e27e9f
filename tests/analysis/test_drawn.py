"""Drawings that are kept: drawn anew exactly where something that they show has changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.drawing import FORMATS, Drawing
from analysis.drawn import STATED, Drawn
from analysis.figures import registry
from analysis.report import MOST_DRAWN, build_report
from analysis.study import Study, study
from tests.analysis.conftest import ARMS, RELAXED, SCRATCH, SweepBuilder


def line(data: Any = (1.0, 2.0), **changes: Any) -> Drawing:
    about: Mapping[str, Any] = {"key": "line", "title": "A line", "description": "It rises.", "size": (2.0, 2.0),
                                "paint": lambda axes, values: axes.plot(values)}
    return Drawing(**{**about, **changes}, data=data)


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what is drawn, in the order of drawing."""
    found: list[str] = []
    saved = Drawing._saved
    monkeypatch.setattr(Drawing, "_saved", lambda self, kind: found.append(f"{self.key}.{kind}") or saved(self, kind))
    return found


def once_more(folder: Path, drawing: Drawing, kind: str = "svg") -> bytes:
    """What a later process gets."""
    drawn = Drawn(folder)
    data = drawn.file(drawing, kind)
    drawn.save()
    return data


def test_what_is_as_it_was_is_not_drawn_again(tmp_path: Path, painted: list[str]) -> None:
    first = [once_more(tmp_path, line(), kind) for kind in FORMATS]
    assert [once_more(tmp_path, line(), kind) for kind in FORMATS] == first
    assert painted == [f"line.{kind}" for kind in FORMATS], "each once"
    assert Drawn(tmp_path).svg(line()) == line().svg and first[0] == line().file("svg")


@pytest.mark.parametrize("changes", [
    {"data": (1.0, 2.0 + 1e-15)}, {"data": (1, 2)}, {"title": "Another"}, {"description": "It falls."},
    {"size": (2.0, 2.5)}])
def test_what_has_changed_is_drawn_again(changes: dict[str, Any], tmp_path: Path, painted: list[str]) -> None:
    once_more(tmp_path, line())
    once_more(tmp_path, line(**changes))
    assert painted == ["line.svg", "line.svg"]


def test_a_picture_that_was_drawn_anew_leaves_none_of_what_was_beside_it(tmp_path: Path) -> None:
    """`sweep` ends with SVG alone, after reports in all formats while it ran."""
    for kind in FORMATS:
        once_more(tmp_path, line(), kind)
    once_more(tmp_path, line())
    assert {p.name for p in tmp_path.glob("line.*")} == {f"line.{kind}" for kind in FORMATS}
    once_more(tmp_path, line((1.0, 3.0)))
    assert [p.name for p in tmp_path.glob("line.*")] == ["line.svg"]


def test_other_code_that_draws_draws_again(
    tmp_path: Path, painted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    once_more(tmp_path, line())
    monkeypatch.setattr("analysis.drawn._code", lambda: "other")
    once_more(tmp_path, line())
    assert len(painted) == 2


@RELAXED
@given(name=st.sampled_from(["line.svg", STATED]), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7),
       gone=st.booleans())
def test_a_damaged_file_is_never_shown(
    name: str, where: float, bit: int, gone: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, drawing = tmp_path_factory.getbasetemp() / "damaged", line()
    sound = once_more(folder, drawing)
    data = bytearray((folder / name).read_bytes())
    data[int(where * len(data))] ^= 1 << bit
    (folder / name).write_bytes(data)
    if gone:
        (folder / name).unlink()
    assert once_more(folder, drawing) == sound == (folder / "line.svg").read_bytes()


@pytest.mark.parametrize("data", [np.zeros(3), {1, 2}, [object()], {"x": np.float64(1).dtype}])
def test_data_of_which_a_text_would_not_say_all_are_refused(data: Any) -> None:
    with pytest.raises(TypeError, match="plain values"):
        assert line(data).identity


def test_a_picture_depends_on_its_data_alone(demo_study: Study) -> None:
    """Every figure's data are plain values, and two studies of the same records have the same."""
    again = replace(demo_study)
    found = [[d.identity for plugin in registry().values() for d in plugin.build(s)] for s in (demo_study, again)]
    assert found[0] == found[1] and len(set(found[0])) == len(found[0]) > 8


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SweepBuilder(tmp_path_factory.mktemp("small"), arms=(SCRATCH, *ARMS[2:4]), domains=("web", "code")).build()


def test_a_second_report_draws_nothing_and_imports_nothing_that_draws(small: Path, tmp_path: Path) -> None:
    first = build_report(small, "demo", tmp_path).read_bytes()
    code = ("import sys; from pathlib import Path; from analysis.report import build_report; "
            "build_report(Path(sys.argv[1]), 'demo', Path(sys.argv[2])); assert 'matplotlib' not in sys.modules")
    subprocess.run([sys.executable, "-c", code, str(small), str(tmp_path)], check=True)
    assert (tmp_path / "report.html").read_bytes() == first
    assert not list((tmp_path / "figures").glob("*.pdf")) and list((tmp_path / "figures").glob("*.svg"))


def test_only_the_domain_that_has_changed_is_drawn_again(
    tmp_path: Path, painted: list[str]
) -> None:
    build_report(SweepBuilder(tmp_path / "a").build(), "demo", tmp_path / "out")
    painted.clear()
    other = SweepBuilder(tmp_path / "b", fate=lambda trial, role, tokens: "absent" if "math-s2" in trial else "done")
    build_report(other.build(), "demo", tmp_path / "out")
    assert {name.split(".")[0] for name in painted} - {"timeline"} == {
        "band_by_domain", "gain_by_band-1", "loss_curves-1", "speedup_over_target-1"}


def test_pages_with_little_room_have_the_first_of_each_figure_first(
    demo_study: Study, tmp_path: Path, painted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis.report import page

    found = replace(demo_study, root=None)
    every = [d for plugin in registry().values() for d in plugin.build(found)]
    first = [d for d in every if d.key in {plugin.build(found)[0].key for plugin in registry().values()
                                           if plugin.build(found)}]
    assert sum(len(d.svg.encode()) for d in every) < MOST_DRAWN, "all of a usual sweep's are on the page"
    painted.clear()
    monkeypatch.setattr("analysis.report.MOST_DRAWN", sum(len(d.svg.encode()) for d in first))
    text = page(replace(found))
    assert all(f'id="{d.key.replace("_", "-")}-t"' in text for d in first) and text.count("<svg ") == len(first)
    assert len(painted) <= len(first) + 4, "what has no room is not drawn, but for one of each figure"


def test_a_sweep_of_many_domains_has_a_page_of_bounded_size(tmp_path: Path) -> None:
    """What grows with the sweep is bounded, and the page says so."""
    root = SweepBuilder(tmp_path, domains=tuple(f"d{k}" for k in range(70)), arms=ARMS[:4], seeds=3).build()
    path = build_report(root, "demo", tmp_path / "out", replace(study(root, "demo"), root=None))
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 2_000_000
    assert "Left out for the size of this page" in text and "more rows are in" in text
    assert "Not everything is here: of the first" in text
