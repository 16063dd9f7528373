"""The page in a real browser: it draws, sorts, filters and shows configurations.

With ``SKHPO_PICTURE=docs/images/report.png`` the picture of the documentation is made anew.
"""

import os

import pytest
from browser import browser, missing
from scipy.stats import loguniform, uniform
from test_importance import table

from skhpo.inspection import report

SPACE = [
    {"lr": loguniform(1e-4, 1), "optimizer": ["adam"], "dropout": uniform(0, 1)},
    {"lr": loguniform(1e-4, 1), "optimizer": ["sgd"], "momentum": uniform(0, 1)},
]

# Moves a number of pictures, counts what is seen, and clicks.
SORTED = """
const head = [...document.querySelectorAll("#rows th")].find(th => th.textContent === "lr");
head.click();
const column = head.cellIndex;
return [...document.querySelectorAll("#rows tbody tr")].map(tr => +tr.cells[column].dataset.v);
"""
FILTERED = """
const field = document.getElementById("filter");
field.value = "sgd";
field.dispatchEvent(new Event("input"));
return [...document.querySelectorAll("#rows tbody tr")].filter(tr => tr.offsetParent).length;
"""
POINTED = """
const line = document.querySelector("svg .config");
line.dispatchEvent(new MouseEvent("mouseover", {bubbles: true, clientX: 300, clientY: 300}));
const tip = document.getElementById("tip");
return [getComputedStyle(tip).display, tip.textContent, line.dataset.row,
        document.querySelectorAll(".on").length];
"""
WIDTHS = "return [document.documentElement.scrollWidth, innerWidth];"


def score(lr, optimizer, dropout=0.0, momentum=0.0):
    return 0.9 - 0.1 * abs(lr - 0.01) ** 0.5 - 0.05 * dropout + 0.02 * momentum


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize("width", [1250, 520])
def test_a_page_in_a_browser(width, tmp_path):
    data = table(SPACE, score, 80, noise=0.005)
    path = report(data, tmp_path / "page.html", title="Two optimizers")
    n_sgd = sum(params["optimizer"] == "sgd" for params in data[0]["params"])
    with browser(tmp_path / "profile", width, 1900) as page:
        page.open(f"file://{path}")
        if width > 1000 and (picture := os.environ.get("SKHPO_PICTURE")):
            with open(picture, "wb") as file:
                file.write(page.picture())
        assert {"Two optimizers", "What matters", "Configurations", "All rows"} <= set(page.text())
        scrolled, inner = page.run(WIDTHS)
        assert scrolled <= inner
        rates = page.run(SORTED)
        assert len(rates) == 80
        assert rates == sorted(rates, reverse=True)
        assert page.run(SORTED) == sorted(rates)
        assert page.run(FILTERED) == n_sgd
        display, text, row, n_lit = page.run(POINTED)
        assert display == "block"
        assert f"row: {row}" in text.split("\n")
        assert n_lit >= 3  # in the table, the line and the dots
        assert page.console() == []
