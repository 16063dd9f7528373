"""When the training of networks may be stopped, read off fits that were not stopped then."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import ceil, isfinite
from numbers import Real

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from ..arguments import Number, check_arguments, nearest_first
from ..wrappers import fitted_inside
from ._reading import read_search
from ._record import SearchRecord

__all__ = ["patience_advice"]

# Curves that belong to a monitored value and are none themselves.
_DERIVED = ("_trend", "_spread", "_best")
# Checks of Keras models and of scikit-learn's multilayer perceptrons.
_KNOWN = ("val_loss", "validation_score")
_LOSSES = ("valid_loss", "val_loss")


def patience_advice(source, monitor=None, *, kept=0.95):
    """Return the smallest `min_epochs` and `patience` that would have kept the best checks.

    They are those that train the fewest epochs of all pairs with which the given share of the fits
    would have ended with the same best weights.

    Parameters
    ----------
    source : estimator, list of estimator, search, str, path-like or SearchRecord
        Networks that were fitted with `validation_fraction` (or pipelines that end in one), and
        kept training longer than the advice may be: best without `patience`. Of a search those
        that it has kept (`keep_models`), or the learning curves in its journal, which are there
        where a callback asks for them (`TensorBoardCallback`).
    monitor : str or None, default=None
        Name of what is checked, as in the history: "valid_loss", "valid_accuracy". Losses are
        better if smaller, scores if larger. None where there is only one.
    kept : float in (0, 1], default=0.95
        Share of the fits whose best check must not be lost.

    Returns
    -------
    found : sklearn.utils.Bunch
        With the attributes

        min_epochs, patience : int
            Epochs, and checks without improvement, as of `TorchClassifier`.
        kept : float
            Share of the fits that they would have ended with the same best weights.
        saved : float
            Share of all epochs that would not have been trained.
        table : dict of str to ndarray
            A line for each patience, for pandas: ``"patience"``, ``"min_epochs"`` (the smallest
            that goes with it), ``"kept"``, ``"saved"``.
        fits : dict of str to ndarray
            A line for each fit: ``"n_epochs"``, ``"best_epoch"``, ``"stop_epoch"`` under the
            advice.
        n_fits : int
            Number of fits that were read.
        n_improving : int
            Fits whose best check was in the last epoch: more epochs may find a better one, and the
            advice says nothing of that.
        monitor : str
            Name of what was checked.

    Raises
    ------
    TypeError
        If `source` is something else.
    ValueError
        If there are no checks, or several monitored values and `monitor` names none of them.
    NotFittedError, JournalError
        As of `read_search`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skhpo import TorchClassifier
    >>> from skhpo.inspection import patience_advice
    >>> X, y = load_digits(return_X_y=True)
    >>> net = TorchClassifier(max_epochs=30, lr=0.01, validation_fraction=0.2, random_state=0)
    >>> found = patience_advice(net.fit(X[:500] / 16, y[:500]))
    >>> found.kept
    1.0
    >>> 0 <= found.saved < 1
    True
    """
    check_arguments(
        "patience_advice",
        {"kept": [Number(Real, 0, 1, closed="right")], "monitor": [str, None]},
        kept=kept,
        monitor=monitor,
    )
    name, fits = _read(source, monitor)
    most = max(fit.n_checks[-1] for fit in fits)
    lines = [_advice(fits, patience, kept) for patience in range(1, most + 1)]
    patience, min_epochs, share, saved = max(lines, key=lambda line: (line[3], -line[1]))
    stops = np.array([fit.stop_epoch(min_epochs, patience) for fit in fits])
    columns = [np.array(values) for values in zip(*lines, strict=True)]
    return Bunch(
        min_epochs=min_epochs,
        patience=patience,
        kept=share,
        saved=saved,
        table=dict(zip(("patience", "min_epochs", "kept", "saved"), columns, strict=True)),
        fits={
            "n_epochs": np.array([fit.n_epochs for fit in fits]),
            "best_epoch": np.array([fit.best_epoch for fit in fits]),
            "stop_epoch": stops,
        },
        n_fits=len(fits),
        n_improving=sum(fit.best_epoch == fit.n_epochs for fit in fits),
        monitor=name,
    )


@dataclass(frozen=True, eq=False)
class _Fit:
    """The checks of a fit, up to the end of each epoch.

    `n_checks` counts them, and `waited` those after the best one; `best_epoch` is counted from 1.
    """

    n_checks: np.ndarray
    waited: np.ndarray
    best_epoch: int

    @classmethod
    def of(cls, epochs, lower_is_better):
        """Read lists of checks, one for each epoch; None if there is no finite one."""
        best, best_check, best_epoch, n = None, 0, 0, 0
        n_checks, waited = [], []
        for epoch, values in enumerate(epochs, start=1):
            for value in values:
                n += 1
                own = -value if lower_is_better else value
                if isfinite(own) and (best is None or own > best):
                    best, best_check, best_epoch = own, n, epoch
            n_checks.append(n)
            waited.append(n - best_check)
        if best is None:
            return None
        return cls(np.array(n_checks), np.array(waited), best_epoch)

    @property
    def n_epochs(self):
        return len(self.waited)

    def least_min_epochs(self, patience):
        """Return the smallest `min_epochs` with which the best check is not lost."""
        too_early = np.flatnonzero(self.waited[: self.best_epoch - 1] >= patience)
        return 1 if not len(too_early) else int(too_early[-1]) + 2

    def stop_epoch(self, min_epochs, patience):
        """Return after how many epochs training stops."""
        epochs = np.arange(1, self.n_epochs + 1)
        stops = np.flatnonzero((self.waited >= patience) & (epochs >= min_epochs))
        return int(stops[0]) + 1 if len(stops) else self.n_epochs


def _advice(fits, patience, kept):
    """Return the smallest `min_epochs` for a patience, and what both keep and save."""
    needed = sorted(fit.least_min_epochs(patience) for fit in fits)
    # Rounding must not ask for one fit more: 0.95 * 20 is 19.
    min_epochs = needed[ceil(kept * len(fits) - 1e-9) - 1]
    stops = [fit.stop_epoch(min_epochs, patience) for fit in fits]
    share = np.mean([stop >= fit.best_epoch for stop, fit in zip(stops, fits, strict=True)])
    saved = 1 - sum(stops) / sum(fit.n_epochs for fit in fits)
    return patience, min_epochs, float(share), float(saved)


def _read(source, monitor):
    """Return the monitored value, and the checks of each fit."""
    if hasattr(source, "cv_results_") and not hasattr(source, "models_"):
        source = getattr(source, "journal", None)
        if source is None:
            raise ValueError(
                "patience_advice needs histories of a search's fits, but it has kept none; set "
                "keep_models to a number of rows, or give a list of fitted networks, such as "
                "search.top_estimators(20) with refit_epochs='same'"
            )
    if isinstance(source, SearchRecord | str | os.PathLike):
        return _from_curves(read_search(source), monitor)
    if hasattr(source, "cv_results_"):
        source = [model for row in source.models_.rows for model in source.kept_models(row)]
    nets = [fitted_inside(one) for one in (source if isinstance(source, list) else [source])]
    for net in nets:
        if not hasattr(net, "fit"):
            raise TypeError(
                "patience_advice reads fitted networks, a search of such, or a journal with "
                f"learning curves, but got {net!r}"
            )
        check_is_fitted(net)
    names = sorted({name for net in nets for name in _monitored(net)})
    name = _chosen(names, monitor)
    return name, _fits([_checks_of(net, name) for net in nets], name)


def _monitored(net):
    """Return the names of what was checked after each epoch."""
    history = getattr(net, "history", None)
    if not isinstance(history, list):
        history = getattr(net, "history_", {})
        return [name for name in history if _is_check(name)]
    names = {name for row in history for name in row if _is_check(name)}
    own = getattr(net, "monitor", None)
    own = own if own in (None, "valid_loss") else f"valid_{own}"
    return [own] if own in names else sorted(names)


def _is_check(name):
    return name in _KNOWN or (name.startswith("valid_") and not name.endswith(_DERIVED))


def _checks_of(net, name):
    """Return a list of checks for each epoch."""
    history = getattr(net, "history", None)
    if not isinstance(history, list):
        return [[value] for value in net.history_.get(name, [])]
    return [row.get("checks", [row[name]]) for row in history if name in row]


def _from_curves(record, monitor):
    names = {name for curves in record.curves for name in curves if _is_check(name)}
    name = _chosen(sorted(names), monitor)
    # Of a configuration at several levels the longest curve has the others in it.
    longest = {}
    for row, curves in enumerate(record.curves):
        for (split, repeat), curve in curves.get(name, {}).items():
            key = record.candidates[row], split, repeat
            if len(curve) > len(longest.get(key, ())):
                longest[key] = curve
    return name, _fits([[[value] for value in curve] for curve in longest.values()], name)


def _chosen(names, monitor):
    if not names:
        raise ValueError(
            "patience_advice needs checks on held-out rows, but the fits have none; set "
            "validation_fraction, such as to 0.1 (and in a search a callback that keeps learning "
            "curves in its journal, or keep_models)"
        )
    if monitor is None and len(names) == 1:
        return names[0]
    if monitor not in names:
        raise ValueError(
            f"monitor must name one of {', '.join(nearest_first(monitor, names))}, but got "
            f"{monitor!r}"
        )
    return monitor


def _fits(checks, name):
    found = [_Fit.of(epochs, name in _LOSSES) for epochs in checks]
    found = [fit for fit in found if fit is not None]
    if not found:
        raise ValueError(f"patience_advice needs finite checks of {name}, but no fit has one")
    return found
