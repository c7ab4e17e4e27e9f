"""The report: safety, size, and what stands behind its numbers."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.behind import behind, key_of
from analysis.drawing import pens
from analysis.explorer import curve_data
from analysis.figures import registry, write_figures
from analysis.report import build_report, page
from analysis.study import Study, study
from orchestrator.__main__ import main
from tests.analysis.conftest import PT, SweepBuilder


class Tags(HTMLParser):
    """Collects tags and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.ids: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.ids += [value for key, value in attrs if key == "id" and value]
        self.attributes |= {key for key, _ in attrs}


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
    assert not {"img", "link", "iframe", "object", "b"} & set(tags.names)
    assert len(tags.ids) == len(set(tags.ids)), "ids of several drawings do not collide"
    assert tags.names.count("title") == 1 + tags.names.count("svg")
    assert not re.search(r'(?:src|href)="(?!#)', text.replace('xmlns:xlink="http://www.w3.org/1999/xlink"', ""))


def test_its_policy_allows_its_own_style_and_script_and_nothing_else(report: Path) -> None:
    text, tags = report.read_text(encoding="utf-8"), Tags()
    tags.feed(text)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    allowed = html.unescape(policy[1]).split("; ")
    assert "default-src 'none'" in allowed and not any("unsafe" in rule for rule in allowed)
    for kind in ("style", "script"):
        bodies = re.findall(rf"<{kind}>(.*?)</{kind}>", text, flags=re.DOTALL)
        hashed = base64.b64encode(hashlib.sha256(bodies[0].encode()).digest()).decode()
        assert len(bodies) == 1 and f"{kind}-src 'sha256-{hashed}'" in allowed
    assert tags.names.count("style") == 1 and tags.names.count("script") == 2, "the other script is data"
    assert "style" not in tags.attributes and not [name for name in tags.attributes if name.startswith("on")]


def test_report_shows_what_it_must(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    for heading in ("What the records say", "Gain over scratch", "Claims made before the run", "Loss curves",
                    "Complexity by domain", "Arms against their controls", "Upstream gate", "Missing and diverged",
                    "Cost", "Departures from the protocol preset", "How to reproduce"):
        assert f"<h2>{heading}</h2>" in text
    assert re.search(r"<td[^>]*>[0-9a-f]{32}</td>", text) and "prefers-color-scheme: dark" in text


def test_report_of_a_sweep_that_has_not_begun(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path, fate=lambda *_: "absent").build()
    text = build_report(root, "demo", tmp_path).read_text(encoding="utf-8")
    assert "<svg" not in text and write_figures(root, "demo", tmp_path) == []
    assert all(f"{p.title}: {p.absent}" in html.unescape(text) for p in registry().values())


def test_a_page_that_would_grow_too_large_names_the_drawings_that_it_leaves_out(
    demo_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.report.MOST_DRAWN", 60_000)
    text = page(demo_study)
    left = re.findall(r"[a-z_]+-\d\.svg", text)
    assert left
    assert 0 < sum(len(part) for part in re.findall(r'<svg [^>]*role="img".*?</svg>', text, flags=re.DOTALL)) <= 60_000


def test_each_number_of_the_main_table_leads_to_its_seeds_and_stages(demo: Path, demo_study: Study) -> None:
    found = {cell.key: cell for cell in behind(demo_study)}
    text = page(demo_study)
    assert set(re.findall(r'href="#(n-[^"]+)"', text)) == set(found) == set(re.findall(r'id="(n-[^"]+)"', text))
    domains, arms = demo_study.records.domains, demo_study.records.arms
    cell = found[key_of(domains.index("math"), arms.index("nca 30-45"))]
    gains = demo_study.gains("math", "nca 30-45")
    assert [(s.seed, s.gain) for s in cell.seeds] == [(seed, f"{gain:+.3f}") for seed, gain in gains.items()]
    planned = {s.fingerprint for t in demo_study.records.plan.trials if t.arm == "nca 30-45" and t.domain == "math"
               for s in t.path}
    assert {step.fingerprint for step in cell.steps} == planned and cell.left_out == 0


def test_the_command_behind_a_number_is_one_that_the_tool_has(
    demo: Path, demo_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = behind(demo_study)[-1]
    program, *argv = shlex.split(cell.seeds[0].command)
    assert program == "orchestrator" and main([*argv, "--root", str(demo)]) == 0
    assert cell.seeds[0].trial in capsys.readouterr().out
    assert main(["why", cell.steps[0].fingerprint[:8], "--root", str(demo)]) == 0
    assert cell.steps[0].fingerprint in capsys.readouterr().out


def test_stages_that_do_not_fit_are_counted(demo_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    every = sum(len(cell.steps) for cell in behind(demo_study))
    monkeypatch.setattr("analysis.behind.MOST_STAGES", every // 2)
    cut = behind(demo_study)
    assert 0 < sum(len(cell.steps) for cell in cut) <= every // 2
    assert sum(len(cell.steps) + cell.left_out for cell in cut) == every


def test_data_of_the_curves_cannot_end_its_element_and_keeps_the_last_point(hostile: Path) -> None:
    found = study(hostile, "demo")
    text = curve_data(found).data
    assert not set("<>&") & set(text)
    data = json.loads(text)
    assert data["domains"] == ["<img src=x onerror=alert(1)>"] and "</script>" in data["arms"][1]["name"]
    ends = [line for line in data["lines"] if line["scored"]]
    assert len(ends) == 3 and all(line["t"][-1] == PT and line["seeds"][-1] == 3 for line in ends)
    mean = sum(found.losses[found.records.domains[0], "scratch"].values()) / 3
    assert ends[0]["mean"][-1] == pytest.approx(mean, rel=1e-5)


def test_long_curves_are_thinned_evenly_to_what_a_screen_shows(
    demo_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = json.loads(curve_data(demo_study).data)["lines"]
    monkeypatch.setattr("analysis.explorer.LINE_POINTS", 5)
    thin = json.loads(curve_data(demo_study).data)["lines"]
    assert max(len(line["t"]) for line in whole) > 5 == max(len(line["t"]) for line in thin)
    for a, b in zip(whole, thin, strict=True):
        assert (a["t"][0], a["t"][-1]) == (b["t"][0], b["t"][-1]) and set(b["t"]) <= set(a["t"])


def test_hours_and_flops_are_those_of_the_arms_own_stages(demo_study: Study) -> None:
    data = json.loads(curve_data(demo_study).data)
    line = next(x for x in data["lines"] if data["arms"][x["arm"]]["name"] == "nca 60-75" and x["scored"])
    row = demo_study.cells[data["domains"][line["domain"]], "nca 60-75"][0]
    path = next(t.path for t in demo_study.records.plan.trials if t.id == row["trial"])
    trained = [s for s in path if s.role in ("trunk", "end")]
    own = {s.fingerprint: s.tokens for s in demo_study.records.plan.stages}
    per_token, upstream = line["cost"]["hours"]
    assert per_token == pytest.approx(len(trained) * 60 / 3_600 / sum(own[s.fingerprint] for s in trained), rel=1e-5)
    assert upstream == pytest.approx(60 / 3_600, rel=1e-5) and line["cost"]["tokens"] == [1, 300_000]
    assert line["cost"]["flops"] == pytest.approx([row["flops_per_token"], row["upstream_flops"]], rel=1e-5)


def test_a_large_sweep_has_whole_domains_of_curves_and_says_which_are_not_there(
    demo_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert curve_data(demo_study).left_out == "", "all of a usual sweep's are there"
    whole = json.loads(curve_data(demo_study).data)
    per_domain = len(whole["lines"]) // 3
    monkeypatch.setattr("analysis.explorer.MOST_POINTS", 2 * per_domain * 20 + 30)
    found = curve_data(demo_study)
    data = json.loads(found.data)
    assert data["domains"] == whole["domains"][:2] and len(data["lines"]) == 2 * per_domain
    assert "of the first 2 of 3 domains" in found.left_out
    assert f"<strong>Not everything is here: {found.left_out}" in page(demo_study)
    monkeypatch.setattr("analysis.explorer.MOST_POINTS", 100)
    found = curve_data(demo_study)
    assert "of the first 1 of 3 domains, of the first 3 of 5 arms" in found.left_out
    assert len(json.loads(found.data)["arms"]) == 3


def test_cells_that_do_not_fit_are_counted_and_no_link_leads_to_them(
    demo_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.behind.MOST_SEEDS", 10)
    text, kept = page(demo_study), {cell.key for cell in behind(demo_study)}
    assert len(kept) == 3 and set(re.findall(r'href="#(n-[^"]+)"', text)) == kept
    assert f"{len(demo_study.cells) - 3} more cells have no place here" in text


def test_tables_share_the_page(demo_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.report.MOST_VALUES", 1_200)
    text = page(demo_study)
    assert sum(int(n) for n in re.findall(r"(\d+) more rows are in <code>inference.csv", text)) == 2
    assert sum(len(re.findall("<t[dh]", part)) for part in re.findall(r"<tbody>.*?</tbody>", text, flags=re.DOTALL)
               ) < 4_000
