"""Figures and the report: bytes, safety, size."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.drawing import pens
from analysis.figures import registry, write_figures
from analysis.report import build_report
from analysis.study import Study
from sweeps.store.layout import Layout
from tests.analysis.conftest import SCRATCH, Arm, SweepBuilder

HOSTILE = '</title><script>alert("x")</script> $x_{ \\frac'


class Tags(HTMLParser):
    """Collects tags and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.ids += [value for key, value in attrs if key == "id" and value]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep whose names attack the page."""
    arms = (SCRATCH, Arm(name=HOSTILE, upstream="nca_shuffled"), Arm(name="n" * 120, upstream="nca", complexity="1-2"))
    root = SweepBuilder(
        tmp_path_factory.mktemp("hostile"), arms=arms, domains=("<img src=x onerror=alert(1)>",),
        plan={"question": HOSTILE, "overrides": (HOSTILE,), "versions": {HOSTILE: HOSTILE}},
    ).build()
    Layout(root).sweep("demo").sweep_file.write_text(HOSTILE)
    return root


def test_figures_have_the_same_bytes_and_no_date(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path / "store", domains=("web",)).build()
    first, second = (write_figures(root, "demo", tmp_path / n) for n in "ab")
    assert [p.name for p in first] == [p.name for p in second] and len(first) == 3
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()
        text = a.read_text()
        ET.fromstring(text)
        assert "<dc:date>" not in text and "#010203" not in text and "<desc" in text


def test_every_arm_has_its_own_pen(demo_study: Study) -> None:
    found = pens(demo_study)
    assert len(set(found.values())) == len(found) == 5


@pytest.fixture(scope="module", params=["demo", "partial", "hostile"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a finished, a running and a hostile sweep."""
    return build_report(request.getfixturevalue(request.param), "demo", tmp_path_factory.mktemp("report"))


def test_report_is_one_safe_file(report: Path) -> None:
    path = report
    text, tags = path.read_text(encoding="utf-8"), Tags()
    tags.feed(text)
    assert path.name == "report.html" and path.stat().st_size < 2_000_000
    assert not {"script", "img", "link", "iframe", "object", "b"} & set(tags.names)
    assert len(tags.ids) == len(set(tags.ids)), "ids of several drawings do not collide"
    assert "default-src 'none'" in text and tags.names.count("title") == 1 + tags.names.count("svg")
    assert not re.search(r'(?:src|href)="(?!#)', text.replace('xmlns:xlink="http://www.w3.org/1999/xlink"', ""))


def test_report_shows_what_it_must(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    for heading in ("What the records say", "Gain over scratch", "Claims made before the run", "Loss curves",
                    "Complexity by domain", "Arms against their controls", "Upstream gate", "Missing and diverged",
                    "Cost", "Departures from the protocol preset", "How to reproduce"):
        assert f"<h2>{heading}</h2>" in text
    assert re.search(r"<td[^>]*>[0-9a-f]{32}</td>", text) and "prefers-color-scheme: dark" in text


def test_report_of_a_sweep_that_has_not_begun(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path, fate=lambda *_: "absent").build()
    assert "<svg" not in build_report(root, "demo", tmp_path).read_text(encoding="utf-8")
    assert write_figures(root, "demo", tmp_path) == []


def test_every_figure_states_itself() -> None:
    assert list(registry()) == ["gain_by_band", "loss_curves", "speedup_over_target"]
    assert all(p.title and p.caption for p in registry().values())
