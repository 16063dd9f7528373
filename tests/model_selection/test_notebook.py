"""What a notebook shows of a search."""

import re

import pytest
import sklearn
from scipy.stats import loguniform
from sklearn.datasets import load_iris
from sklearn.svm import SVC

from skhpo import BayesSearchCV

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def fitted():
    space = {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-4, 1)}
    search = BayesSearchCV(SVC(), space, n_iter=8, cv=2, random_state=0)
    assert "skhpo-summary" not in search._repr_html_()
    return search.fit(*load_iris(return_X_y=True))


def test_a_fitted_search_shows_its_best_row_and_curve(fitted):
    html = fitted._repr_html_()
    assert "sk-top-container" in html  # the diagram
    summary = html[html.index('<div class="skhpo-summary">') :]
    assert f"8 rows; best: row {fitted.best_index_}, score {fitted.best_score_:.5g}" in summary
    for name, value in fitted.best_params_.items():
        assert f"<code>{name}</code></td><td>{value:.5g}" in summary
    [points] = re.findall(r'points="([^"]+)"', summary)
    heights = [float(point.split(",")[1]) for point in points.split()]
    assert heights == sorted(heights, reverse=True)  # it only goes up
    assert fitted._repr_mimebundle_()["text/html"].endswith(summary)


def test_values_are_text_and_the_display_can_be_turned_off(fitted):
    search = BayesSearchCV(SVC(), {"C": [1]}).set_params(random_state=0)
    search.cv_results_ = {"params": [{"C": EVIL}], "mean_test_score": [0.5]}
    search.best_index_, search.best_params_ = 0, {"C": EVIL}
    assert EVIL not in search._repr_html_()
    with sklearn.config_context(display="text"):
        assert not hasattr(fitted, "_repr_html_")
