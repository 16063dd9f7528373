"""Ready-made networks."""

from __future__ import annotations

import numbers

from torch import nn

from ._names import nearest_first, resolve_activation

__all__ = ["MLP"]

_NORMALIZATIONS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class MLP(nn.Sequential):
    """Multilayer perceptron.

    Each hidden layer is linear, then the normalization, the activation and the dropout. The
    layers have names (``linear_0``, ``norm_0``, ``activation_0``, ``dropout_0``, ..., ``output``)
    that do not depend on which other layers there are.

    Parameters
    ----------
    in_features : int
        Values per sample. A sample of more than one dimension (an image) is flattened.
    out_features : int
        Width of the output: classes, or targets.
    n_units : int, default=64
        Units of each hidden layer.
    n_layers : int, default=1
        Hidden layers. With 0 the network is linear.
    activation : str or callable, default="relu"
        Name ("relu", "tanh", "gelu", "silu", "elu", "leaky_relu", ...), or a class or callable
        that makes a module.
    dropout : float, default=0.0
        Probability in [0, 1) with which a hidden unit is dropped in training.
    input_dropout : float, default=0.0
        Probability in [0, 1) with which an input is dropped in training.
    normalization : {"batch", "layer"} or None, default=None
        Normalization of the hidden layers.

    Raises
    ------
    ValueError
        If an argument is out of its range, or a name is unknown.

    Examples
    --------
    >>> import torch
    >>> from skhpo.estimators import MLP
    >>> net = MLP(4, 3, n_units=8, n_layers=2, dropout=0.1, normalization="layer")
    >>> net(torch.zeros(5, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        in_features,
        out_features,
        n_units=64,
        n_layers=1,
        activation="relu",
        dropout=0.0,
        input_dropout=0.0,
        normalization=None,
    ):
        super().__init__()
        _check_count("n_units", n_units, 1)
        _check_count("n_layers", n_layers, 0)
        _check_probability("dropout", dropout)
        _check_probability("input_dropout", input_dropout)
        make_activation = resolve_activation(activation)
        if input_dropout:
            self.input_dropout = nn.Dropout(input_dropout)
        for i in range(n_layers):
            self.add_module(f"linear_{i}", nn.Linear(in_features, n_units))
            if normalization is not None:
                self.add_module(f"norm_{i}", _make_normalization(normalization, n_units))
            self.add_module(f"activation_{i}", make_activation())
            if dropout:
                self.add_module(f"dropout_{i}", nn.Dropout(dropout))
            in_features = n_units
        self.output = nn.Linear(in_features, out_features)

    def forward(self, x):
        """Map a batch of shape (n, ...) to (n, out_features)."""
        return super().forward(x.flatten(1) if x.ndim > 2 else x)


def _make_normalization(name, n_units):
    if name not in _NORMALIZATIONS:
        known = ", ".join(repr(known) for known in nearest_first(name, _NORMALIZATIONS))
        raise ValueError(f"normalization must be None or one of {known}, but got {name!r}")
    return _NORMALIZATIONS[name](n_units)


def _check_count(name, value, low):
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name} must be an integer >= {low}, but got {value!r}")


def _check_probability(name, value):
    if not isinstance(value, numbers.Real) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number in [0, 1), but got {value!r}")
