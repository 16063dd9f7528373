"""Whether the moving averages of batch normalization stand for the data."""

from __future__ import annotations

import copy

import numpy as np
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted

from .._compat import num_samples
from ..arguments import COUNT, check_arguments
from ..rows import take_rows
from ..wrappers import fitted_inside

__all__ = ["batch_norm_gap"]

# Probabilities of float32 are clipped where that type can.
_EPS = float(np.finfo(np.float32).eps)


def batch_norm_gap(estimator, X, y, *, n_passes=5, random_state=0):
    """Compare batch normalization in training mode and in evaluation mode on the same rows.

    In training each batch is normalized by its own mean and variance, afterwards by moving averages
    of them. Where these do not stand for the data (batches that were not shuffled or come from
    several sources, too few steps), a network that fits well predicts badly. Dropout is off in both
    modes. A fit with ``recalibrate=True`` makes them again.

    Parameters
    ----------
    estimator : TorchClassifier, TorchRegressor or Pipeline
        Fitted, with batch normalization; of a pipeline the last step is looked at.
    X : array-like of shape (n_samples, ...)
        Rows like those of training, in their order; best the training rows themselves.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Their targets.
    n_passes : int, default=5
        Times that the rows are divided into batches; once if ``iterator_train__shuffle=False``,
        where batches have the rows in order, as in training.
    random_state : int, RandomState or None, default=0
        Of the batches.

    Returns
    -------
    found : sklearn.utils.Bunch
        With the attributes

        differs : bool
            Whether `gap` is larger than `spread`, in either direction: moving averages then do not
            stand for the data, or batches are so small that their noise harms.
        gap : float
            `loss_evaluation` less `loss_training`; above 0 where predictions are worse than
            training lets one hope.
        spread : float
            Standard deviation of the loss in training mode among batches.
        loss_training, loss_evaluation : float
            The log loss, the mean over labels where rows have several; of a regressor the mean
            squared error; of a classifier without probabilities the share of errors.
        changed : float
            Share of rows whose predicted label differs between both modes; of a regressor the root
            of the mean squared difference, in units of the residual in evaluation mode.
        table : dict of str to ndarray
            A line for each batch, for pandas: ``"n_rows"``, ``"loss_training"``,
            ``"loss_evaluation"``.
        layers : dict of str to ndarray
            ``"layer"``, ``"n_channels"``; ``"shift"``, how far moving means are from those of the
            rows, the root mean square over channels in standard deviations of the rows; and
            ``"variance_ratio"``, of moving variances to those of the rows, the geometric mean.
            A layer late in the network sees what the ones before it make in training mode.

    Raises
    ------
    TypeError
        If `estimator` is no network of this package around torch.
    NotFittedError
        If it is not fitted.
    ValueError
        If it has no batch normalization with moving averages, there are fewer than four rows, or
        `y` is of another length or has other labels.

    References
    ----------
    .. [1] S. Ioffe, C. Szegedy. Batch Normalization. ICML 2015, algorithm 2.
    .. [2] Y. Wu, J. Johnson. Rethinking "Batch" in BatchNorm. 2021, sections 3 and 5.

    Examples
    --------
    Rows that come class by class:

    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skhpo import TorchClassifier
    >>> from skhpo.inspection import batch_norm_gap
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> order = np.argsort(y, kind="stable")
    >>> net = TorchClassifier(module__normalization="batch", max_epochs=10, random_state=0)
    >>> batch_norm_gap(net.fit(X, y), X, y).differs
    False
    >>> net = net.set_params(iterator_train__shuffle=False).fit(X[order], y[order])
    >>> batch_norm_gap(net, X[order], y[order]).differs
    True
    """
    check_arguments("batch_norm_gap", {"n_passes": [COUNT]}, n_passes=n_passes)
    net = fitted_inside(estimator)
    if not hasattr(net, "forward_iter"):
        raise TypeError(
            "batch_norm_gap looks into TorchClassifier and TorchRegressor, and pipelines that end "
            f"in one, but got {type(net).__name__}"
        )
    check_is_fitted(net)
    if isinstance(estimator, Pipeline):
        X = estimator[:-1].transform(X)
    n = num_samples(X)
    y = np.asarray(y)
    if len(y) != n or n < 4:
        raise ValueError(
            f"X and y must have the same rows, four at least, but have {n} and {len(y)}"
        )
    if is_classifier(net) and not np.isin(y, net.classes_).all():
        other = np.setdiff1d(y, net.classes_)[:3].tolist()
        raise ValueError(
            f"y must be like that of fit, but has labels that the network does not know: {other}"
        )
    evaluated, training = _in_both_modes(net)
    means, variances, handles = _watched(training)
    params = net.get_params(deep=False)
    shuffled = params.get("iterator_train__shuffle", True)
    batch_size = params.get("iterator_train__batch_size", net.batch_size)
    rng = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
    lines, changed = [], []
    for _ in range(n_passes if shuffled else 1):
        order = rng.permutation(n) if shuffled else np.arange(n)
        for rows in _batches(order, batch_size):
            own_X, own_y = take_rows(X, rows), y[rows]
            outputs = [_outputs(one, own_X) for one in (training, evaluated)]
            losses = [_loss(net, one, own_y) for one in outputs]
            lines.append((len(rows), *losses))
            changed.append(_changed(net, *outputs, own_y))
    for handle in handles:
        handle.remove()
    sizes, of_training, of_evaluation = map(np.array, zip(*lines, strict=True))
    losses = [float(np.average(one, weights=sizes)) for one in (of_training, of_evaluation)]
    spread = float(of_training.std(ddof=1)) if len(sizes) > 1 else np.nan
    change = float(np.average(changed, weights=sizes))
    if not is_classifier(net):
        change = float(np.sqrt(change / losses[1])) if losses[1] > 0 else 0.0
    gap = losses[1] - losses[0]
    return Bunch(
        differs=bool(abs(gap) > spread),
        gap=gap,
        spread=spread,
        loss_training=losses[0],
        loss_evaluation=losses[1],
        changed=change,
        table={
            "n_rows": sizes,
            "loss_training": of_training,
            "loss_evaluation": of_evaluation,
        },
        layers=_layers(evaluated, means, variances, sizes),
    )


def _in_both_modes(net):
    """Return two copies of a network: as it predicts, and with normalization as in training."""
    evaluated, training = copy.deepcopy(net), copy.deepcopy(net)
    norms = _norms(training)
    if not norms:
        raise ValueError(
            "batch_norm_gap needs a network with batch normalization and moving averages, but this "
            "one has none"
        )

    def normalize_by_batch(module, inputs):
        for layer in norms.values():
            layer.train()

    training.module_.register_forward_pre_hook(normalize_by_batch)
    for one in (evaluated, training):
        one.set_params(iterator_valid__batch_size=-1)
    return evaluated, training


def _norms(net):
    from torch.nn.modules.batchnorm import _BatchNorm

    return {
        name: layer
        for name, layer in net.module_.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    }


def _watched(net):
    """Collect the means and variances of what goes into each normalization."""
    means, variances, handles = {}, {}, []

    def watch(name, layer):
        def hook(module, inputs):
            x = inputs[0].detach().transpose(0, 1).flatten(1).double()
            means.setdefault(name, []).append(x.mean(1).cpu().numpy())
            variances.setdefault(name, []).append(x.var(1, correction=0).cpu().numpy())

        return layer.register_forward_pre_hook(hook)

    handles = [watch(name, layer) for name, layer in _norms(net).items()]
    return means, variances, handles


def _layers(net, means, variances, sizes):
    table = {"layer": [], "n_channels": [], "shift": [], "variance_ratio": []}
    for name, layer in _norms(net).items():
        if name not in means:
            continue
        mean = np.average(means[name], axis=0, weights=sizes)
        within = np.average(variances[name], axis=0, weights=sizes)
        whole = within + np.average((np.array(means[name]) - mean) ** 2, axis=0, weights=sizes)
        whole = np.maximum(whole, layer.eps)
        moving = layer.running_mean.double().cpu().numpy()
        ratio = layer.running_var.double().cpu().numpy() / whole
        table["layer"].append(name)
        table["n_channels"].append(len(mean))
        table["shift"].append(np.sqrt(np.mean((moving - mean) ** 2 / whole)))
        table["variance_ratio"].append(np.exp(np.mean(np.log(np.maximum(ratio, 1e-12)))))
    names = np.array(table.pop("layer"), dtype=object)
    return {"layer": names, **{name: np.array(values) for name, values in table.items()}}


def _batches(order, size):
    """Divide rows into batches of two at least, as training does."""
    n = len(order)
    size = n if size == -1 else max(min(size, n), 2)
    cuts = list(range(size, n, size))
    if cuts and n - cuts[-1] < 2:
        cuts.pop()
    return np.split(order, cuts)


def _outputs(net, X):
    if hasattr(net, "predict_proba"):
        return np.asarray(net.predict_proba(X), dtype=float)
    return np.asarray(net.predict(X))


def _loss(net, output, y):
    if not is_classifier(net):
        return float(np.mean((output.reshape(len(y), -1) - y.reshape(len(y), -1)) ** 2))
    if not hasattr(net, "predict_proba"):
        return float(np.mean(output != y))
    if y.ndim == 2 and y.shape[1] > 1:
        own = np.where(y > 0, output, 1 - output)
    else:
        own = output[np.arange(len(y)), np.searchsorted(net.classes_, y.ravel())]
    return float(-np.mean(np.log(np.clip(own, _EPS, 1))))


def _changed(net, one, other, y):
    """Return the share of labels that differ, of a regressor the mean squared difference."""
    if not is_classifier(net):
        return np.mean((one - other) ** 2)
    if not hasattr(net, "predict_proba"):
        return np.mean(one != other)
    if y.ndim == 2 and y.shape[1] > 1:
        return np.mean((one > 0.5) != (other > 0.5))
    return np.mean(one.argmax(axis=1) != other.argmax(axis=1))
