"""The page: what it says, that names cannot act in it, and how it looks in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from analysis.replication.page import VERDICTS, Replication, write_replication

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SCRIPT = "<script>alert(1)</script>"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: set[str | None] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses |= {value for name, value in attrs if name in ("href", "src", "xlink:href")}


@pytest.fixture(scope="module")
def page(small_replication: Replication) -> str:
    return small_replication.html.read_text(encoding="utf-8")


def test_every_statement_is_there_with_its_verdict_in_words(small_replication: Replication, page: str) -> None:
    assert page.count('<td class="verdict-cell">') == len(small_replication.claims) == 36
    for claim in small_replication.claims:
        row = page[page.index(f'<tr id="{claim.id}">') :]
        assert f'<span class="badge {claim.verdict}">{VERDICTS[claim.verdict]}</span>' in row[: row.index("</tr>")]
    assert small_replication.summary_line in page


def test_the_page_needs_nothing_else(page: str) -> None:
    assert "default-src 'none'" in page
    parser = _Tags()
    parser.feed(page)
    assert not {"script", "iframe", "img", "object"} & set(parser.names)
    assert all(str(address).startswith(("#", "data:")) for address in parser.addresses)
    assert not re.search(r"url\(['\"]?[^#'\"]|@import", page)


def test_names_of_cases_and_folders_are_text(make_study: Callable[..., Path], tmp_path: Path) -> None:
    cases = [f"<script>{number}" for number in range(6)]
    folder = make_study(tmp_path / SCRIPT.replace("/", "-"), cases, modalities=("CT",), perturbations=("blur",))
    html = write_replication(folder, tmp_path / "out").html.read_text(encoding="utf-8")
    parser = _Tags()
    parser.feed(html)
    assert "script" not in parser.names
    assert "&lt;script&gt;alert(1)" in html


def test_figures_say_how_many_cases(page: str) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, flags=re.DOTALL)
    assert len(captions) == 9  # four of correlations, one overview, four of boxes
    assert all("n = " in caption for caption in captions)


def test_on_a_desk_on_a_phone_and_on_paper(small_replication: Replication, browser: Browser) -> None:
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 844})
        complaints: list[str] = []
        requests: list[str] = []
        page.on("console", lambda message, to=complaints: to.append(message.text))
        page.on("pageerror", lambda error, to=complaints: to.append(str(error)))
        page.on("request", lambda request, to=requests: to.append(request.url))
        page.goto(small_replication.html.as_uri())
        page.wait_for_load_state("networkidle")
        assert complaints == []
        assert [url for url in requests if not url.startswith("data:")] == [small_replication.html.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator(".badge").count() >= 36
        details = page.locator('[id="missed.GTVn"] details')
        assert not details.locator("dl").is_visible()
        details.locator("summary").click()
        assert details.locator("dl").is_visible()
    page.emulate_media(media="print")
    # On paper nothing can be opened: everything is.
    assert page.locator('[id="dice.GTVp.mean"] dl').bounding_box()["height"] > 10
