"""Harmonica's terms and scores, drawn."""

from __future__ import annotations

import numpy as np

from ._drawing import Drawing

__all__ = ["HarmonicaDisplay"]


class HarmonicaDisplay(Drawing):
    """The terms that `HarmonicaSearchCV` found by size, and its scores stage by stage.

    Make it with `from_search`.

    Parameters
    ----------
    terms : list of str
        The terms of all stages.
    stage_of_term : ndarray of int, shape (n_terms,)
        The stage that found each term.
    coefficients : ndarray of float, shape (n_terms,)
        In units of the score; positive where the score is larger if what the term names is so.
    scores : list of ndarray
        Of each stage, and of the base last: the scores of its candidates, sorted, without failures.
    score_name : str
        What the scores are.

    Attributes
    ----------
    ax_ : ndarray of two matplotlib Axes
        Terms and scores.
    figure_ : matplotlib Figure

    See Also
    --------
    skhpo.HarmonicaSearchCV : The search.
    ImportanceDisplay : Which parameters matter, for any search.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from skhpo import HarmonicaSearchCV
    >>> from skhpo.inspection import HarmonicaDisplay
    >>> search = HarmonicaSearchCV(
    ...     SVC(),
    ...     {"C": loguniform(1e-3, 1e3), "kernel": ["rbf", "sigmoid"]},
    ...     n_stages=1,
    ...     n_samples=30,
    ...     n_iter=5,
    ...     cv=2,
    ...     random_state=0,
    ... )
    >>> display = HarmonicaDisplay.from_search(search.fit(*load_iris(return_X_y=True)))
    >>> display.terms[0]
    'kernel = sigmoid'
    """

    def __init__(self, *, terms, stage_of_term, coefficients, scores, score_name="score"):
        self.terms = terms
        self.stage_of_term = stage_of_term
        self.coefficients = coefficients
        self.scores = scores
        self.score_name = score_name

    @classmethod
    def from_search(cls, search, *, metric=None, ax=None):
        """Draw a fitted search.

        Parameters
        ----------
        search : HarmonicaSearchCV
            Fitted.
        metric : str or None, default=None
            Which score; None is the one that guided the search.
        ax : sequence of two matplotlib Axes, or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        HarmonicaDisplay

        Raises
        ------
        TypeError
            If `search` is no fitted `HarmonicaSearchCV`.
        ValueError
            If the search has no such score.
        """
        if not hasattr(search, "important_parameters_"):
            raise TypeError(
                f"HarmonicaDisplay draws a fitted HarmonicaSearchCV, but got {search!r}; call fit "
                "first"
            )
        table = search.important_parameters_
        name, means = _mean_scores(search, metric)
        display = cls(
            terms=[_text(term) for term in table["term"]],
            stage_of_term=table["stage"],
            coefficients=table["coefficient"],
            scores=_by_stage(search.cv_results_, means),
            score_name=name,
        )
        return display.plot(ax=ax)

    def _draw(self, ax):
        height = max(3.5, 0.3 * len(self.terms) + 1)
        left, right = self._grid(ax, 2, 2, (5.5, height), width_ratios=(2, 3))
        places = np.arange(len(self.terms))
        left.barh(places, self.coefficients, color=[f"C{stage}" for stage in self.stage_of_term])
        left.set_yticks(places, self.terms)
        left.invert_yaxis()
        left.axvline(0, color="black", linewidth=0.8)
        left.set(xlabel=f"coefficient ({self.score_name})", title="Terms, stage by stage")
        for stage, scores in enumerate(self.scores):
            share = np.linspace(0, 1, len(scores))
            label = "base" if stage == len(self.scores) - 1 else f"stage {stage}"
            right.plot(share, scores, color=f"C{stage}", label=f"{label} ({len(scores)})")
        right.set(
            xlabel="share of the candidates, sorted",
            ylabel=self.score_name,
            title="Scores, stage by stage",
        )
        if self.scores:
            right.legend()


def _mean_scores(search, metric):
    table = search.cv_results_
    known = [key.removeprefix("mean_test_") for key in table if key.startswith("mean_test_")]
    if metric is None:
        metric = search.refit if isinstance(search.refit, str) else known[0]
    if metric not in known:
        raise ValueError(f"metric must be one of {known}, but got {metric!r}")
    return metric, table[f"mean_test_{metric}"]


def _by_stage(table, means):
    """Return the scores of each stage, sorted; of the base, those at its largest resource."""
    stages = table["stage"]
    found = []
    for stage in range(stages.max() + 1):
        rows = (stages == stage) & np.isfinite(means)
        if "n_resources" in table and rows.any():
            rows &= table["n_resources"] == table["n_resources"][rows].max()
        found.append(np.sort(means[rows]))
    return found


def _text(term):
    return " & ".join(
        f"{name} {label}" if isinstance(label, str) and label[:1] in "<>" else f"{name} = {label}"
        for name, label in term
    )
