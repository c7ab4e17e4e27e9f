"""The report in a browser: errors, requests, keyboard, contrast, widths, hostile names, without script, on paper.

Skipped where there is no Chromium or no `playwright`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.report import build_report
from tests.analysis.conftest import HOSTILE

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `test`)")
pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"), pytest.mark.timeout(300)]
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")
WIDTHS = (320, 480, 768, 1200, 1920)
LEAST_CONTRAST = 4.5
"""Of text, WCAG 2.2 AA."""
CONTRASTS = """() => {
  const bright = (c) => { const [r, g, b] = c.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 :
    ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
  const found = new Map(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const e = node.parentElement;
    if (!node.textContent.trim() || e.closest("script, style, .figures svg, title, desc")) continue;
    if (!e.checkVisibility()) continue;
    const style = getComputedStyle(e), ink = parse(e instanceof SVGElement ? style.fill : style.color).slice(0, 3);
    const [a, b] = [bright(ink), bright(behind(e))].sort((x, y) => y - x);
    const key = `${e.tagName}.${e.getAttribute("class") ?? ""}`, ratio = (a + 0.05) / (b + 0.05);
    found.set(key, Math.min(ratio, found.get(key) ?? 99));
  }
  return Object.fromEntries(found);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def reports(
    demo: Path, partial: Path, hostile: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    roots = {"demo": demo, "partial": partial, "hostile": hostile}
    return {name: build_report(root, "demo", tmp_path_factory.mktemp(name)) for name, root in roots.items()}


class Opened:
    """A page, and whatever it complained of or asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.complaints: list[str] = []
        self.page = browser.new_context(**options).new_page()
        self.page.on("console", lambda m: self.complaints.append(m.text))
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("dialog", lambda d: (self.complaints.append(f"dialog {d.message}"), d.dismiss()))
        self.page.on("request", lambda r: r.url.startswith("file:") or self.complaints.append(r.url))
        self.page.goto(path.as_uri())

    def said(self) -> str:
        return str(self.page.locator("output").text_content())


@pytest.mark.parametrize("name", ["demo", "partial", "hostile"])
def test_it_complains_of_nothing_asks_for_nothing_and_never_scrolls_sideways(
    browser: Any, reports: dict[str, Path], name: str
) -> None:
    opened = Opened(browser, reports[name])
    for width in WIDTHS:
        opened.page.set_viewport_size({"width": width, "height": 900})
        opened.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        wide, room = opened.page.evaluate(
            "(({ scrollWidth, clientWidth }) => [scrollWidth, clientWidth])(document.scrollingElement)")
        assert wide <= room, f"{wide - room} px too wide at {width}"
    assert opened.complaints == []
    opened.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(browser: Any, reports: dict[str, Path], scheme: str) -> None:
    opened = Opened(browser, reports["partial"], color_scheme=scheme)
    opened.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    found = opened.page.evaluate(CONTRASTS)
    assert len(found) > 15 and "text." in found
    assert {key: round(ratio, 2) for key, ratio in found.items() if ratio < LEAST_CONTRAST} == {}
    opened.page.context.close()


def test_names_are_shown_as_they_are_and_make_no_element(browser: Any, reports: dict[str, Path]) -> None:
    opened = Opened(browser, reports["hostile"])
    page = opened.page
    assert page.evaluate("document.scripts.length") == 2 and page.locator("img").count() == 0
    shown = " ".join(HOSTILE.split()).replace("\u202e", "\\u202e")
    assert page.locator('[data-part="arms"] label').nth(1).text_content().startswith(shown)
    assert page.locator('[data-part="domain"] option').text_content() == "<img src=x onerror=alert(1)>"
    assert page.locator("header .lead").text_content() == HOSTILE
    assert opened.complaints == []
    page.context.close()


def test_curves_are_read_with_the_keyboard_alone(browser: Any, reports: dict[str, Path]) -> None:
    opened = Opened(browser, reports["demo"])
    page = opened.page
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('plot')"):
            break
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Loss curves")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    told = []
    for key in ("ArrowRight", "End", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
        told.append(opened.said())
    assert len(set(told)) == 4 and all("loss" in text and "seeds" in text for text in told)
    page.keyboard.press("Escape")
    assert "arrow keys" in opened.said()
    before = page.locator(".plot svg path").count()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "checkbox"
    page.keyboard.press("Space")
    assert page.locator(".plot svg path").count() < before
    assert opened.complaints == []
    page.context.close()


def test_axes_and_arms_are_chosen_and_the_pointer_reads_a_value(browser: Any, reports: dict[str, Path]) -> None:
    opened = Opened(browser, reports["demo"], viewport={"width": 1200, "height": 900})
    page = opened.page
    title = lambda: page.locator(".plot svg text").last.text_content()  # noqa: E731 - read again after each choice
    for unit, name in (("flops", "FLOPs"), ("hours", "hours"), ("tokens", "tokens")):
        page.locator('[data-part="unit"]').select_option(unit)
        assert title() == f"pre-training {name}"
    page.locator('[data-part="charge"]').check()
    page.locator('[data-part="log-x"]').check()
    page.locator('[data-part="log-y"]').check()
    assert title() == "upstream and pre-training tokens (log)"
    page.get_by_role("button", name="none").click()
    assert "no arm is chosen" in opened.said() and page.locator(".plot svg path").count() == 0
    page.get_by_role("button", name="all").click()
    page.locator(".plot").scroll_into_view_if_needed()
    mark = page.locator('.plot svg path[transform]').first.bounding_box()
    page.mouse.move(mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2)
    assert "an end that counts" in opened.said() and opened.complaints == []
    page.context.close()


def test_a_number_leads_to_the_stages_behind_it(browser: Any, reports: dict[str, Path]) -> None:
    opened = Opened(browser, reports["demo"])
    link = opened.page.locator('td a[href^="#n-"]').nth(4)
    target = opened.page.locator(str(link.get_attribute("href")))
    assert target.get_attribute("open") is None
    link.focus()
    opened.page.keyboard.press("Enter")
    playwright.expect(target).to_have_attribute("open", "")
    assert "orchestrator why" in target.inner_text() and opened.complaints == []
    opened.page.context.close()


def test_without_script_and_on_paper_the_pictures_stand_in(browser: Any, reports: dict[str, Path]) -> None:
    bare = Opened(browser, reports["demo"], java_script_enabled=False).page
    assert bare.locator(".still svg").first.is_visible() and not bare.locator("#explorer").is_visible()
    bare.context.close()
    page = Opened(browser, reports["demo"]).page
    assert page.locator("#explorer").is_visible() and not page.locator(".still svg").first.is_visible()
    page.emulate_media(media="print")
    assert page.locator(".still svg").first.is_visible() and not page.locator("#explorer").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.context.close()
