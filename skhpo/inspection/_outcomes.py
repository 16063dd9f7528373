"""What the configurations of a search predicted, beside what was to be predicted."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from ..ensembles import labels_of
from ..model_selection import read_kept
from ._reading import read_search

__all__ = ["Outcomes", "checked_row_numbers", "read_outcomes"]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Kept predictions of some rows of a search, the best row first.

    A layer has splits that test no row of the data twice, see `OutOfFold`.

    Parameters
    ----------
    rows : ndarray of int, shape (n_rows,)
        Of ``cv_results_``.
    scores : ndarray of shape (n_rows,)
        Their means.
    outputs : ndarray of shape (n_rows, n_repeats, n_layers, n_tested[, n_outputs])
    covered : ndarray of bool, shape (n_layers, n_tested)
        Whether a layer has an output.
    tested : ndarray of int, shape (n_tested,)
        Rows of the data.
    y : ndarray of shape (n_tested,) or (n_tested, n_outputs)
    classes : ndarray of shape (n_classes,) or (n_labels, 2), or None
        None for a regressor.
    method : str
        What the outputs are.
    """

    rows: np.ndarray
    scores: np.ndarray
    outputs: np.ndarray
    covered: np.ndarray
    tested: np.ndarray
    y: np.ndarray
    classes: np.ndarray | None
    method: str

    @property
    def n_repeats(self):
        """Fits of one configuration on one split."""
        return self.outputs.shape[1]

    def codes(self):
        """Return predicted classes by number, and the true ones; of several labels the labels.

        Returns
        -------
        predicted : ndarray of int, shape (n_rows, n_repeats, n_layers, n_tested, n_labels)
        true : ndarray of int, shape (n_tested, n_labels)
        """
        inner = self.outputs.shape[3:]
        labels = np.stack(
            [labels_of(one, self.method, self.classes) for one in self.outputs.reshape(-1, *inner)]
        )
        true = self.y
        if self.classes.ndim == 1:
            labels = np.searchsorted(self.classes, labels)
            true = np.searchsorted(self.classes, true)
        return labels.reshape(*self.outputs.shape[:4], -1), true.reshape(len(self.y), -1)


def read_outcomes(search, rows, y, what, n_needed=2):
    """Return the `Outcomes` that a search has kept, of at least `n_needed` rows.

    Without `rows` they are all that have predictions and a finite score; `y` is what ``fit`` got,
    None where that is still there; `what` is the function that asks, for messages.

    Raises
    ------
    TypeError
        If `search` is none of this package: others keep no predictions.
    NotFittedError
        If it is not fitted.
    ValueError
        If no predictions were kept, or not those of the rows; or `y` is needed.
    """
    if not hasattr(search, "out_of_fold_predictions"):
        raise TypeError(
            f"{what} reads predictions that a fitted search of skhpo has kept "
            f"(return_predictions=True), but got {search!r}"
        )
    if hasattr(search, "cv_results_") and rows is not None:
        rows = checked_row_numbers(rows, len(search.cv_results_["params"]))
    found, targets, classes = read_kept(search, y, what, rows)
    means = read_search(search).means()[found.rows]
    finite = np.isfinite(means)
    if rows is not None and not finite.all():
        raise ValueError(
            f"{what} orders rows by their scores, but that of row {found.rows[finite.argmin()]} is "
            f"{means[finite.argmin()]}; leave it out"
        )
    order = [i for i in np.argsort(-means, kind="stable") if finite[i]]
    if len(order) < n_needed:
        raise ValueError(
            f"{what} needs at least {n_needed} rows with predictions and finite scores, but there "
            f"are {len(order)}; name more rows, let the search try more configurations, or keep "
            "those of lower resources, too (keep_from)"
        )
    return Outcomes(
        rows=np.array(found.rows)[order],
        scores=means[order],
        outputs=found.outputs[order],
        covered=found.covered,
        tested=found.tested,
        y=targets,
        classes=classes,
        method=search.predictions_.method,
    )


def checked_row_numbers(rows, n_rows):
    """Return row numbers as a list.

    Raises ValueError if some are no integers, out of range, or there twice.
    """
    rows = list(np.atleast_1d(np.asarray(rows, dtype=object)))
    for row in rows:
        known = isinstance(row, Integral) and not isinstance(row, bool) and 0 <= row < n_rows
        if not known:
            raise ValueError(
                f"rows must be integers from 0 to {n_rows - 1}, rows of cv_results_, but got "
                f"{row!r}"
            )
        if rows.count(row) > 1:
            raise ValueError(f"rows must differ from each other, but {row} is there twice")
    return [int(row) for row in rows]
