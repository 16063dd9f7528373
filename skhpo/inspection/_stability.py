"""How far explanations of a model depend on its configuration, and on its seed."""

from __future__ import annotations

import numpy as np
from scipy.sparse import issparse
from scipy.stats import rankdata
from sklearn.base import is_classifier
from sklearn.inspection import permutation_importance
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted

from .._compat import StrOptions, num_samples
from ..arguments import COUNT, check_arguments
from ..wrappers import fitted_inside
from ._class_effects import equally_good
from ._outcomes import checked_row_numbers
from ._reading import read_search

__all__ = ["explanation_stability"]

KINDS = ("configuration", "seed", "split")


def explanation_stability(
    search,
    X,
    y=None,
    method="permutation",
    *,
    rows=None,
    scoring=None,
    n_permutations=5,
    random_state=0,
):
    """Compare explanations of models that score alike: between configurations, seeds and splits.

    What a model says of its inputs may hang on a choice that the score does not see. A correlation
    between configurations that is far below the one between seeds says that the explanation is one
    of the configuration (Bansal, Agarwal, Nguyen, 2020).

    Parameters
    ----------
    search : search of this package
        Fitted with ``keep_models=n``, the number of rows that are compared; between seeds only with
        ``n_repeats=2`` or more.
    X : array-like of shape (n_samples, n_features)
        Rows that are explained. Best such that no fit has seen.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Their targets, for "permutation".
    method : {"permutation", "gradient"}, default="permutation"
        The explanation of a fit:

        * "permutation": by how much its score on `X` falls where a feature is shuffled, for each
          feature (Breiman, 2001);
        * "gradient": for each row of `X` the absolute gradient of a torch network's output with
          respect to what goes into the network, for a classifier of the output of the class that
          most fits predict.
    rows : list of int or None, default=None
        Rows of ``cv_results_``; None for those whose models are kept and that are as good as the
        best of them within one standard error, split by split.
    scoring : str, callable or None, default=None
        For "permutation"; None is the ``score`` of the estimators.
    n_permutations : int, default=5
        For "permutation".
    random_state : int or None, default=0
        Of the permutations, which are the same for all fits.

    Returns
    -------
    found : sklearn.utils.Bunch
        With the attributes

        summary : dict of str to ndarray
            A line for each kind of pair, for pandas: ``"kind"``, ``"correlation"`` (the mean),
            ``"low"`` and ``"high"`` (what 80% of the pairs are in), ``"n_pairs"``. NaN where there
            is no pair. Kinds are

            * "configuration": two rows on the same split;
            * "seed": two repeats of one row on one split, the baseline;
            * "split": one row on two splits.
        table : dict of str to ndarray
            A line for each pair: ``"kind"``, ``"row_a"``, ``"row_b"``, ``"split_a"``,
            ``"split_b"``, ``"repeat_a"``, ``"repeat_b"``, ``"correlation"``: Spearman's, between
            features; with "gradient" the mean over rows of `X`.
        features : dict of str to ndarray
            ``"feature"``, ``"importance"`` (the mean over fits; with "gradient" of the mean over
            rows) and ``"std"`` over fits.
        explanations : ndarray of shape (n_fits, n_features) or (n_fits, n_samples, n_features)
            Explanation of each fit.
        fits : ndarray of int, shape (n_fits, 3)
            Row, split and repeat of each.
        rows : ndarray of int
            Rows that are compared, the best first.

    Raises
    ------
    TypeError
        If `search` is none of this package, or "gradient" is asked of what is no torch network.
    NotFittedError
        If it is not fitted.
    ValueError
        If no models are kept, or not those of `rows`; `y` is missing; there is a single fit, or
        fewer than two features.

    References
    ----------
    .. [1] N. Bansal, C. Agarwal, A. Nguyen. SAM: The Sensitivity of Attribution Methods to
       Hyperparameters. CVPR 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from skhpo import BayesSearchCV
    >>> from skhpo.inspection import explanation_stability
    >>> X, y = load_iris(return_X_y=True)
    >>> forest = RandomForestClassifier(5)
    >>> search = BayesSearchCV(
    ...     forest, {"max_depth": [3, 4]}, n_iter=2, n_repeats=2, keep_models=2, random_state=0
    ... )
    >>> found = explanation_stability(search.fit(X, y), X, y, rows=[0, 1])
    >>> found.summary["kind"].tolist(), found.summary["n_pairs"].tolist()
    (['configuration', 'seed', 'split'], [20, 10, 40])
    """
    check_arguments(
        "explanation_stability",
        {"method": [StrOptions({"permutation", "gradient"})], "n_permutations": [COUNT]},
        method=method,
        n_permutations=n_permutations,
    )
    rows = _rows(search, rows)
    if method == "permutation" and (y is None or len(y) != num_samples(X)):
        raise ValueError(
            'method="permutation" scores predictions for X, and needs y of as many rows, '
            f"{num_samples(X)}, but got {None if y is None else len(y)}; give it, or use "
            'method="gradient"'
        )
    fits, models = [], []
    for row in rows:
        kept = search.kept_models(row)
        fits += [(row, *divmod(i, search.n_repeats)) for i in range(len(kept))]
        models += kept
    if len(fits) < 2:
        raise ValueError(
            "explanations of two fits at least are compared, but there is one; give rows of which "
            f"models are kept ({search.models_.rows}), or search with several splits or repeats"
        )
    fits = np.array(fits)
    if method == "permutation":
        seed = check_random_state(random_state).randint(2**31 - 1)
        found = np.array(
            [
                permutation_importance(
                    *(model, X, y), scoring=scoring, n_repeats=n_permutations, random_state=seed
                ).importances_mean
                for model in models
            ]
        )
    else:
        found = _gradients(models, X)
    if found.shape[-1] < 2:
        raise ValueError("ranks of features are compared, two at least, but X has one")
    by_feature = found if found.ndim == 2 else found.mean(axis=1)
    table = _pairs(fits, found)
    return Bunch(
        summary=_summary(table),
        table=table,
        features={
            "feature": _names(models[0], X, found.shape[-1]),
            "importance": by_feature.mean(axis=0),
            "std": by_feature.std(axis=0, ddof=1),
        },
        explanations=found,
        fits=fits,
        rows=rows,
    )


def _rows(search, rows):
    """Return the rows that are compared, the best first."""
    if not hasattr(search, "kept_models"):
        raise TypeError(
            "explanation_stability explains models that a fitted search of skhpo has kept "
            f"(keep_models), but got {search!r}"
        )
    check_is_fitted(search, "cv_results_")
    if not hasattr(search, "models_"):
        raise ValueError(
            "explanation_stability needs the models of the fits, but the search was fitted with "
            "keep_models=0; set keep_models to a number of rows, and fit it"
        )
    record = read_search(search)
    means = record.means()
    wanted = search.models_.rows
    if rows is not None:
        wanted = checked_row_numbers(rows, record.n_rows)
    wanted = np.array(sorted(wanted, key=lambda row: -means[row]), dtype=int)
    if rows is None and len(wanted):
        wanted = equally_good(record, wanted)
    if not len(wanted):
        raise ValueError(
            "explanation_stability needs rows whose models are kept, but there is none"
        )
    return wanted


def _gradients(models, X):
    """Return absolute gradients of shape (n_models, n_samples, n_features)."""
    import torch

    from ..training.modes import usual_modes

    nets, inputs = [], []
    for model in models:
        net = fitted_inside(model)
        if not hasattr(net, "forward_iter"):
            raise TypeError(
                'method="gradient" needs torch networks, TorchClassifier or TorchRegressor, but '
                f'got a {type(net).__name__}; use method="permutation"'
            )
        params = net.get_params(deep=False)
        given_transforms = [k for k in ("transform", "train_transform") if params[k] is not None]
        if given_transforms:
            raise ValueError(
                'method="gradient" needs networks that take X as it is, but this one has '
                f'{" and ".join(given_transforms)}; use method="permutation"'
            )
        given = model[:-1].transform(X) if isinstance(model, Pipeline) else X
        given = given.toarray() if issparse(given) else np.asarray(given)
        nets.append(net)
        inputs.append(given)
    classes = None
    if is_classifier(nets[0]) and np.ndim(nets[0].predict(inputs[0])) == 1:
        predicted = np.array([net.predict(x) for net, x in zip(nets, inputs, strict=True)])
        known = np.unique(predicted)
        votes = (predicted[:, :, None] == known).sum(axis=0)
        classes = known[votes.argmax(axis=1)]
    found = []
    for net, given in zip(nets, inputs, strict=True):
        kind = next(iter(net.module_.parameters())).dtype
        net.module_.eval()
        with usual_modes():
            x = torch.tensor(given, dtype=kind, device=net.device_, requires_grad=True)
            output = net.infer(x)
            output = output[0] if isinstance(output, tuple) else output
            if classes is not None and output.ndim == 2 and output.shape[1] > 1:
                own = torch.as_tensor(np.searchsorted(net.classes_, classes), device=output.device)
                output = output.gather(1, own[:, None])
            (gradient,) = torch.autograd.grad(output.sum(), x)
        found.append(gradient.abs().flatten(1).cpu().double().numpy())
    return np.array(found)


def _pairs(fits, explanations):
    """Return rank correlations of pairs of fits that differ in one thing."""
    ranks = rankdata(explanations, axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=-1, keepdims=True)
    # A constant explanation ranks nothing.
    ranks = np.divide(ranks, norms, out=np.full_like(ranks, np.nan), where=norms > 0)
    a, b = np.triu_indices(len(fits), k=1)
    same = fits[a] == fits[b]
    row, split, repeat = same.T
    masks = (~row & split, row & split & ~repeat, row & ~split & repeat)
    kind = np.select(masks, KINDS, default="")
    there = np.flatnonzero(kind != "")
    a, b = a[there], b[there]
    correlation = np.array(
        [_mean((ranks[i] * ranks[j]).sum(axis=-1)) for i, j in zip(a, b, strict=True)]
    )
    columns = {"kind": kind[there].astype(object)}
    for i, name in enumerate(("row", "split", "repeat")):
        columns |= {f"{name}_a": fits[a, i], f"{name}_b": fits[b, i]}
    return {**columns, "correlation": correlation}


def _mean(values):
    values = np.atleast_1d(values)
    known = values[~np.isnan(values)]
    return known.mean() if len(known) else np.nan


def _summary(table):
    lines = []
    for kind in KINDS:
        values = table["correlation"][table["kind"] == kind]
        values = values[~np.isnan(values)]
        ends = np.percentile(values, [10, 90]) if len(values) else (np.nan, np.nan)
        lines.append((_mean(values), *ends, len(values)))
    columns = map(np.array, zip(*lines, strict=True))
    names = ("correlation", "low", "high", "n_pairs")
    return {"kind": np.array(KINDS, dtype=object), **dict(zip(names, columns, strict=True))}


def _names(model, X, n):
    """Return names of the features that are explained, numbers where they have none."""
    names = np.array(getattr(X, "columns", np.arange(n)), dtype=object)
    return names if len(names) == n else np.arange(n).astype(object)
