"""The code on the pages runs: the blocks ``python`` of each section, in order, by themselves."""

import re
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["coming_from.md", "racing.md", "recipes.md", "spaces.md", "watching.md"]
PAGES += ["what_can_go_wrong.md"]
PAGES = ["README.md", *(f"docs/{page}" for page in PAGES)]
# What a test need not wait for.
SMALLER = {
    "max_resources=27": "max_resources=3",
    "n_iter=20": "n_iter=2",
    "max_epochs=10": "max_epochs=1",
}


def sections():
    """Yield the code of each section of the pages, under the page and the heading."""
    for page in PAGES:
        for part in re.split(r"^## ", (ROOT / page).read_text(), flags=re.MULTILINE):
            code = "\n".join(re.findall(r"^```python\n(.*?)^```", part, re.DOTALL | re.MULTILINE))
            if code:
                for number, smaller in SMALLER.items():
                    code = code.replace(number, smaller)
                title = part.partition("\n")[0].strip("# ")
                marks = [pytest.mark.xdist_group("keras")] if "Keras" in code else []
                yield pytest.param(code, id=f"{Path(page).stem}-{title}", marks=marks)


@pytest.mark.parametrize("code", list(sections()))
def test_code_of_page_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "keras" in code and find_spec("keras") is None:
        pytest.skip("needs keras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(code, "<page>", "exec"), {"__name__": "page"})


def test_messages_that_pages_quote_are_those_of_the_package():
    source = "".join(path.read_text() for path in (ROOT / "skhpo").rglob("*.py"))
    source = re.sub(r'"\s*f?"', "", source)
    text = (ROOT / "docs/what_can_go_wrong.md").read_text()
    quoted = re.findall(r"^> (.+)$", text, re.MULTILINE)
    table = text[text.index("## Other messages") : text.index("## Results that")]
    quoted += re.findall(r"^\| `([^`]* [^`]*)`", table, re.MULTILINE)
    parts = [part.strip(" ;,?:") for line in quoted for part in line.split("...")]
    unknown = [part for part in parts if len(part) > 3 and part not in source]
    assert len(parts) > 20
    assert unknown == []


@cache
def anchors_of(page):
    """Return the names of the headings of a page, as MyST and GitHub make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).strip().replace(" ", "-") for line in headings}


def links_of(page):
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\]\(([^()\s]+)\)", text)


def test_links_between_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("docs/benchmarks/*.md")]
    broken, n_links = [], 0
    for page in pages:
        for link in links_of(page):
            path, _, anchor = link.partition("#")
            if ":" in path:  # to elsewhere
                continue
            n_links += 1
            target = page.parent / path if path else page
            missing = not target.exists()
            if missing or (anchor and target.suffix == ".md" and anchor not in anchors_of(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert n_links > 200
    assert broken == []
