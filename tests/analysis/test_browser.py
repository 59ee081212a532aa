"""The page in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analysis.report import Report, write_report
from analysis.results import Sources

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no chromium on the path (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


def test_a_report_of_numbers_shows_everything(browser: Browser, run_of_4: Path, tmp_path: Path) -> None:
    check_on_a_desk_and_on_a_phone(browser, write_report(shutil.copytree(run_of_4, tmp_path / "run")))


def test_a_report_with_pictures_shows_everything(
    browser: Browser, run_with_images: Path, toy: Any, tmp_path: Path
) -> None:
    run = shutil.copytree(run_with_images, tmp_path / "run")
    check_on_a_desk_and_on_a_phone(browser, write_report(run, sources=Sources(model=toy.folder)))


def check_on_a_desk_and_on_a_phone(browser: Browser, report: Report) -> None:
    """No complaint on the console, no request for anything else, every figure is there and has a size."""
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 844})
        complaints: list[str] = []
        requests: list[str] = []
        page.on("console", lambda message, to=complaints: to.append(message.text))
        page.on("pageerror", lambda error, to=complaints: to.append(str(error)))
        page.on("request", lambda request, to=requests: to.append(request.url))
        page.goto(report.html.as_uri())
        page.wait_for_load_state("networkidle")
        assert complaints == []
        assert [url for url in requests if not url.startswith("data:")] == [report.html.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") == width
        figures = page.locator("figure svg")
        assert figures.count() == len(report.figures) // 2
        for index in range(figures.count()):
            box = figures.nth(index).bounding_box()
            assert box is not None
            assert box["width"] > 300
            assert box["height"] > 100
            assert box["x"] >= 0
        fits = page.locator("figure:not(.wide-figure)").evaluate_all(
            "all => all.every(f => f.getBoundingClientRect().right <= window.innerWidth)"
        )
        assert fits
        broken = page.locator("svg image").evaluate_all(
            "all => Promise.all(all.map(i => { const image = new Image(); image.src = i.href.baseVal; "
            "return image.decode().then(() => 0, () => 1); })).then(found => found.reduce((a, b) => a + b, 0))"
        )
        assert broken == 0
        page.close()
