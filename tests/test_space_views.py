"""What a search space looks like, in text and in a notebook."""

from html.parser import HTMLParser

import pytest
from scipy import stats
from sklearn.svm import SVC

from skhpo import SearchSpace, log_randint, ordered


class Cells(HTMLParser):
    """The rows of a table; fails on tags that do not match."""

    def __init__(self):
        super().__init__()
        self.rows, self.caption, self._open = [], "", []

    def handle_starttag(self, tag, attrs):
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "caption" in self._open:
            self.caption += data
        else:
            self.rows[-1][-1] += data


def table(space):
    cells = Cells()
    cells.feed(space._repr_html_())
    cells.close()
    assert not cells._open
    return cells


PARAMETERS = [
    ("a", ["relu", None, 1.5], "choice", "'relu', None, 1.5", ""),
    ("a", [SVC, SVC(C=2), len], "choice", "SVC, SVC(C=2), len", ""),
    ("a", ["x", "x", "x", "y"], "choice", "'x' (0.75), 'y' (0.25)", ""),
    ("a", list(range(12)), "choice", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (2 more)", ""),
    ("a", ordered([1e-6, 1e-4 * 0.1, 16]), "ordered", "1e-06, 1e-05, 16", ""),
    ("a", ordered(range(1, 100)), "ordered", "1 to 99", "99 steps"),
    ("a", stats.uniform(0, 0.6), "continuous", "0 to 0.6", "uniform(0, 0.6)"),
    ("a", stats.norm(loc=1), "continuous", "-inf to inf", "norm(loc=1)"),
    ("a", stats.randint(1, 5), "integer", "1 to 4", "randint(1, 5)"),
    (
        "a",
        log_randint(1, 10**9),
        "integer",
        "1 to 999999999",
        "log_randint(low=1, high=1000000000)",
    ),
]


@pytest.mark.parametrize(("name", "given", "kind", "values", "law"), PARAMETERS)
def test_a_parameter_says_its_kind_values_and_distribution(name, given, kind, values, law):
    space = SearchSpace({name: given})
    _, line = str(space).splitlines()
    assert line == f"  {name}  {kind}  {values}  {law}".rstrip()
    assert table(space).rows[1:] == [[name, kind, values, law]]


def test_columns_line_up_and_the_title_counts():
    space = SearchSpace({"units": [16, 32], "lr": stats.loguniform(1e-4, 1)})
    title, lr, units = str(space).splitlines()
    assert title == "2 parameters, infinitely many configurations"
    assert lr.index("continuous") == units.index("choice")
    assert lr.index("0.0001 to") == units.index("16, 32")
    assert str(SearchSpace({"a": [1]})).startswith("1 parameter, 1 configuration\n")
    assert str(SearchSpace({"a": range(1000)})).startswith("1 parameter, 1,000 configurations\n")
    assert table(space).caption == title


def test_each_dict_of_a_conditional_space_is_shown():
    space = SearchSpace([{"kernel": ["rbf"], "C": [1, 2]}, {"kernel": ["linear"]}])
    assert str(space).splitlines() == [
        "2 parameters, 3 configurations",
        "either",
        "  C       choice  1, 2",
        "  kernel  choice  'rbf'",
        "or",
        "  kernel  choice  'linear'",
    ]
    first = [row[0] for row in table(space).rows]
    assert first == ["parameter", "either", "C", "kernel", "or", "kernel"]


def test_text_of_values_is_escaped_and_kept_short():
    space = SearchSpace({"a": ["<script>", "x" * 1000, {"k": [1]}]})
    assert "<script>" not in space._repr_html_()
    (row,) = table(space).rows[1:]
    assert row[2] == f"'<script>', '{'x' * 56}..., {{'k': [1]}}"


def test_steps_of_other_packages():
    optuna = pytest.importorskip("optuna", reason="needs Optuna's distributions")
    space = SearchSpace({"a": optuna.distributions.FloatDistribution(0.0, 1.0, step=0.25)})
    assert str(space).splitlines()[1].split("  ")[1:] == ["a", "ordered", "0, 0.25, 0.5, 0.75, 1"]
