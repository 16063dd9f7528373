"""The site that `make docs` built, link by link and in a headless browser."""

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import browser, free_port, missing, open_text, running, wait_for

SITE = Path(__file__).parents[1] / "docs" / "_build" / "html"
PAGES = sorted(str(page.relative_to(SITE)) for page in SITE.rglob("*.html"))
PAGES = [page for page in PAGES if not page.startswith("_static")]  # templates of the theme
PHONE = 390  # pixels, the width of a common phone

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not PAGES, reason="needs the site, which `make docs` builds"),
]


class Links(HTMLParser):
    """What a page links to, and the names in it that can be linked to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.names = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.names.update(filter(None, (attributes.get("id"), attributes.get("name"))))
        for name in ("href", "src"):
            if attributes.get(name):
                self.links.add(attributes[name])


@cache
def links_of(page):
    return Links((SITE / page).read_text(encoding="utf-8"))


def broken(page):
    for link in links_of(page).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (SITE / page).parent / unquote(parts.path) if parts.path else SITE / page
        target = target / "index.html" if target.is_dir() else target
        if not target.exists():
            yield link
        elif parts.fragment and target.suffix == ".html":
            name = str(target.resolve().relative_to(SITE.resolve()))
            if unquote(parts.fragment) not in links_of(name).names:
                yield link


def test_no_internal_link_is_broken():
    found = {page: sorted(broken(page)) for page in PAGES}
    assert {page: links for page, links in found.items() if links} == {}


@pytest.fixture(scope="module")
def address():
    if missing():
        pytest.skip(missing())
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with running(*command, "--directory", str(SITE)):
        found = f"http://127.0.0.1:{port}"
        wait_for(lambda: open_text(found), "answer of the site")
        yield found


def test_pages_on_a_phone_have_no_errors_and_fit_its_width(address, tmp_path):
    errors, wide = {}, {}
    with browser(tmp_path, phone=PHONE) as page:
        for name in PAGES:
            page.open(f"{address}/{name}")
            if found := [line for line in page.errors() if "favicon" not in line]:
                errors[name] = found
            width = page.run("return document.documentElement.scrollWidth")
            if width > PHONE:
                wide[name] = width
    assert errors == {}
    assert wide == {}


def test_search_finds_a_class(address, tmp_path):
    with browser(tmp_path) as page:
        page.open(f"{address}/search.html?q=HalvingHyperbandSearchCV")
        found = wait_for(
            lambda: page.run(
                "return [...document.querySelectorAll('.search li a')].map(a => a.href)"
            ),
            "results of the search",
            seconds=20,
        )
    assert any("generated/skhpo.HalvingHyperbandSearchCV.html" in link for link in found)
