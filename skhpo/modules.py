"""Ready-made networks."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from .arguments import COUNT, COUNT_OR_ZERO, Number, check_arguments
from .names import nearest_first, resolve_activation

__all__ = ["MLP", "ConvNet", "TableInputs", "TabularMLP"]

# Standard deviation of the initial vectors of categories.
_SMALL = 0.05
_NORMALIZATIONS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
_RATE = [Number(numbers.Real, 0, 1, closed="left")]
# Constraints of arguments.
_OF_MLP = {
    "n_units": [COUNT],
    "n_layers": [COUNT_OR_ZERO],
    "dropout": _RATE,
    "input_dropout": _RATE,
}
_OF_CONV_NET = {
    "n_channels": [COUNT],
    "n_layers": [COUNT],
    "kernel_size": [COUNT],
    "dropout": _RATE,
}


class MLP(nn.Sequential):
    """Multilayer perceptron.

    Each hidden layer is linear, then the normalization, the activation and the dropout. The
    layers have names (``linear_0``, ``norm_0``, ``activation_0``, ``dropout_0``, ..., ``output``)
    that do not depend on other layers.

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
        Name ("relu", "tanh", "gelu", "silu", "elu", "leaky_relu", ...), a class or callable that
        makes a module, a module (each layer gets a copy), or a function of a tensor.
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

    See Also
    --------
    ConvNet : For images.
    TabularMLP : For tables with categories.
    skhpo.TorchClassifier : The estimator around it.

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
        in_features: int,
        out_features: int,
        n_units: int = 64,
        n_layers: int = 1,
        activation: str | Callable[..., Any] = "relu",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        normalization: str | None = None,
    ) -> None:
        super().__init__()
        rates = {"dropout": dropout, "input_dropout": input_dropout}
        check_arguments(type(self).__name__, _OF_MLP, n_units=n_units, n_layers=n_layers, **rates)
        make_activation = resolve_activation(activation)
        in_features = self._add_inputs(in_features)
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

    def _add_inputs(self, in_features: int) -> int:
        """Add what comes before the layers; return the number of its outputs."""
        return in_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map a batch to its outputs.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Samples.

        Returns
        -------
        output : Tensor of shape (n, out_features)
            Logits of classes, or predictions of targets.
        """
        x = x.flatten(1) if x.ndim > 2 else x
        output: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call] # torch's
        return output


class TabularMLP(MLP):
    """Multilayer perceptron for tables with categories, as `TableEncoder` makes them.

    The first columns are categories: each integer has a vector of its own (an embedding), that
    of 0, an unseen category, is zero. The other columns are numbers, which a batch normalization
    brings to mean 0 and variance 1. Both go to the layers of an `MLP`, below the same names, after
    the layer ``table``.

    Parameters
    ----------
    in_features : int
        Columns of the table.
    out_features : int
        Width of the output: classes, or targets.
    n_categories : tuple of int
        Integers of each of the first columns, () if there are no categories. The torch estimators
        know it of the output of `skhpo.preprocessing.TableEncoder`.
    embedding_size : int, default=4
        Length of the vector of a category.
    n_units, n_layers, activation, dropout, input_dropout, normalization : object
        As in `MLP`; `input_dropout` is that of vectors and numbers.

    Raises
    ------
    ValueError
        If an argument is out of its range, or a name is unknown.

    See Also
    --------
    skhpo.preprocessing.TableEncoder : Makes its input.
    MLP : For numbers only.

    Examples
    --------
    >>> import torch
    >>> from skhpo.modules import TabularMLP
    >>> net = TabularMLP(3, 2, n_categories=(4,), n_units=16)
    >>> net(torch.tensor([[2.0, 0.5, 1.5], [3.0, 0.1, 0.0]])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        n_categories: Iterable[int],
        embedding_size: int = 4,
        n_units: int = 64,
        n_layers: int = 1,
        activation: str | Callable[..., Any] = "relu",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        normalization: str | None = None,
    ) -> None:
        self._of_table = tuple(n_categories), embedding_size
        super().__init__(
            *(in_features, out_features, n_units, n_layers, activation),
            *(dropout, input_dropout, normalization),
        )

    def _add_inputs(self, in_features: int) -> int:
        self.table = TableInputs(in_features, *self._of_table)
        return self.table.out_features


class TableInputs(nn.Module):
    """The first layer of a `TabularMLP`: embeddings of categories, then normalized numbers."""

    def __init__(
        self, in_features: int, n_categories: tuple[int, ...], embedding_size: int
    ) -> None:
        super().__init__()
        check_arguments("TabularMLP", {"embedding_size": [COUNT]}, embedding_size=embedding_size)
        self.n_categories, self.n_columns = n_categories, len(n_categories)
        n_numbers = in_features - self.n_columns
        if n_numbers < 0 or not all(isinstance(n, int) and n > 0 for n in n_categories):
            raise ValueError(
                f"n_categories must have a number >= 1 for each of the first columns, of which "
                f"there are at most {in_features}, but got {n_categories!r}"
            )
        self.out_features = self.n_columns * embedding_size + n_numbers
        if n_categories:
            # One vector for 0 in all columns, then those of each column.
            sizes = torch.tensor([n - 1 for n in n_categories])
            self.offsets: torch.Tensor
            self.register_buffer("offsets", sizes.cumsum(0) - sizes, persistent=False)
            self.embedding = nn.Embedding(1 + int(sizes.sum()), embedding_size, padding_idx=0)
            # Small, so that categories begin about equal: torch's own of 1 overfits small tables.
            nn.init.normal_(self.embedding.weight, std=_SMALL)
            with torch.no_grad():
                self.embedding.weight[0].zero_()
        if n_numbers:
            self.norm = nn.BatchNorm1d(n_numbers, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map a batch of shape (n, in_features) to (n, out_features)."""
        parts = []
        if self.n_columns:
            codes = x[:, : self.n_columns].long()
            parts.append(self.embedding(codes + self.offsets * (codes > 0)).flatten(1))
        if x.shape[1] > self.n_columns:
            parts.append(self.norm(x[:, self.n_columns :]))
        return torch.cat(parts, 1)


class ConvNet(nn.Sequential):
    """Small convolutional network for images.

    Each layer is a convolution that keeps height and width, then the normalization, the
    activation and a max-pooling that halves them; the number of channels doubles from layer to
    layer. The output layer is linear. The layers have names
    (``conv_0``, ``norm_0``, ``activation_0``, ``pool_0``, ..., ``flatten``, ``dropout``,
    ``output``).

    Parameters
    ----------
    input_shape : tuple of int
        Shape of an image: (channels, height, width), or (height, width) of gray ones.
    out_features : int
        Width of the output: classes, or targets.
    n_channels : int, default=16
        Channels of the first convolution.
    n_layers : int, default=2
        Convolutions, as many as the image can be halved.
    kernel_size : int, default=3
        Height and width of a convolution, an odd number of pixels.
    activation : str or callable, default="relu"
        As in `MLP`.
    dropout : float, default=0.0
        Probability in [0, 1) with which an input of the output layer is dropped in training.
    normalization : {"batch"} or None, default=None
        Normalization of the convolutions.

    Raises
    ------
    ValueError
        If an argument is out of its range, or the images are no images.

    See Also
    --------
    MLP : For rows of numbers.
    skhpo.TorchClassifier : The estimator around it.

    Examples
    --------
    >>> import torch
    >>> from skhpo.estimators import ConvNet
    >>> net = ConvNet((28, 28), 10, n_channels=8)
    >>> net(torch.zeros(5, 28, 28)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        out_features: int,
        n_channels: int = 16,
        n_layers: int = 2,
        kernel_size: int = 3,
        activation: str | Callable[..., Any] = "relu",
        dropout: float = 0.0,
        normalization: str | None = None,
    ) -> None:
        super().__init__()
        if len(input_shape) not in (2, 3):
            raise ValueError(
                "ConvNet needs images of shape (channels, height, width) or (height, width), but "
                f"a sample has the shape {tuple(input_shape)}; reshape X"
            )
        sizes = {"n_channels": n_channels, "n_layers": n_layers, "kernel_size": kernel_size}
        check_arguments("ConvNet", _OF_CONV_NET, dropout=dropout, **sizes)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, but got {kernel_size}")
        if normalization not in (None, "batch"):
            raise ValueError(f"normalization must be None or 'batch', but got {normalization!r}")
        *channels, height, width = input_shape
        if min(height, width) < 2**n_layers:
            hint = "lower n_layers"
            if channels and width in (1, 3, 4) and channels[0] > width:
                hint = "channels come first, so where they are last pass X.transpose(0, 3, 1, 2)"
            raise ValueError(
                f"n_layers={n_layers} halves images {n_layers} times, but they have only "
                f"{height} x {width} pixels; {hint}"
            )
        make_activation = resolve_activation(activation)
        self.is_gray = not channels
        n_in = channels[0] if channels else 1
        for i in range(n_layers):
            conv = nn.Conv2d(n_in, n_channels, kernel_size, padding=kernel_size // 2)
            self.add_module(f"conv_{i}", conv)
            if normalization is not None:
                self.add_module(f"norm_{i}", nn.BatchNorm2d(n_channels))
            self.add_module(f"activation_{i}", make_activation())
            self.add_module(f"pool_{i}", nn.MaxPool2d(2))
            n_in, n_channels = n_channels, 2 * n_channels
        self.flatten = nn.Flatten()
        if dropout:
            self.dropout = nn.Dropout(dropout)
        n_values = n_in * (height // 2**n_layers) * (width // 2**n_layers)
        self.output = nn.Linear(n_values, out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map a batch of images to their outputs.

        Parameters
        ----------
        x : Tensor of shape (n, channels, height, width) or (n, height, width)
            Images.

        Returns
        -------
        output : Tensor of shape (n, out_features)
            Logits of classes, or predictions of targets.
        """
        x = x.unsqueeze(1) if self.is_gray else x
        output: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call] # torch's
        return output


def _make_normalization(name: str, n_units: int) -> nn.Module:
    if name not in _NORMALIZATIONS:
        known = ", ".join(repr(known) for known in nearest_first(name, _NORMALIZATIONS))
        raise ValueError(f"normalization must be None or one of {known}, but got {name!r}")
    return _NORMALIZATIONS[name](n_units)
