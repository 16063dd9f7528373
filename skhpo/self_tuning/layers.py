"""Layers whose weights respond to hyperparameters, and dropout with a rate per example.

Each behaves as the layer of `torch.nn` with that name, and loads its state dict, until
`SelfTuningClassifier` or `SelfTuningRegressor` attaches a context.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ._modulated import Modulated

__all__ = [
    "HyperConv1d",
    "HyperConv2d",
    "HyperDropout",
    "HyperLinear",
    "HyperLockedDropout",
    "HyperValue",
]


class HyperLinear(Modulated, nn.Linear):
    """Linear layer whose weights respond; the arguments are those of `torch.nn.Linear`.

    Examples
    --------
    >>> import torch
    >>> from skhpo.self_tuning import Context, HyperLinear
    >>> context = Context(["weight_decay", "drop.p"])
    >>> layer = HyperLinear(4, 3).attach(context)
    >>> context.response = torch.zeros(5, 2)
    >>> layer(torch.ones(5, 4)).shape
    torch.Size([5, 3])
    """

    def _map(self, x, weight, bias):
        return F.linear(x, weight, bias)

    def _map_and_add(self, x, weight, bias):
        if bias is None or x.ndim != 2:
            return super()._map_and_add(x, weight, bias)
        return torch.addmm(bias, x, weight.t())


class HyperConv1d(Modulated, nn.Conv1d):
    """One-dimensional convolution whose weights respond, per output channel.

    The arguments are those of `torch.nn.Conv1d`.

    Examples
    --------
    Without a context it is torch's layer, and loads its weights:

    >>> import torch
    >>> from skhpo.self_tuning import HyperConv1d
    >>> plain, layer = torch.nn.Conv1d(3, 8, 5), HyperConv1d(3, 8, 5)
    >>> _ = layer.load_state_dict(plain.state_dict())
    >>> x = torch.ones(2, 3, 20)
    >>> torch.equal(layer(x), plain(x))
    True
    """

    _channel = 1

    def _map(self, x, weight, bias):
        return self._conv_forward(x, weight, bias)


class HyperConv2d(Modulated, nn.Conv2d):
    """Two-dimensional convolution whose weights respond, per output channel.

    The arguments are those of `torch.nn.Conv2d`.

    Examples
    --------
    Two equal images under different hyperparameters:

    >>> import torch
    >>> from skhpo.self_tuning import Context, HyperConv2d
    >>> context = Context(["cutout_length"])
    >>> layer = HyperConv2d(1, 4, 3).attach(context)
    >>> context.response = torch.tensor([[0.0], [1.0]])
    >>> one, other = layer(torch.ones(2, 1, 8, 8))
    >>> torch.equal(one, other)
    False
    """

    _channel = 1

    def _map(self, x, weight, bias):
        return self._conv_forward(x, weight, bias)


class HyperDropout(nn.Module):
    """Dropout with a separate rate for each example.

    Parameters
    ----------
    p : float, default=0.5
        Probability in [0, 1) with which a value is dropped, where it is not tuned.
    shared : {"none", "channel", "time"}, default="none"
        Which values share one draw: none; all positions of a channel (dimensions from 2 on), as
        in `torch.nn.Dropout2d`; all steps of a sequence (dimension 1), that is locked dropout.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> import torch
    >>> from skhpo.self_tuning import HyperDropout
    >>> HyperDropout(0.3).eval()(torch.ones(2, 3)).sum().item()
    6.0
    """

    context = None
    name = None

    def __init__(self, p=0.5, shared="none"):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p must be a number in [0, 1), but got {p!r}")
        if shared not in ("none", "channel", "time"):
            raise ValueError(f"shared must be 'none', 'channel' or 'time', but got {shared!r}")
        self.p = p
        self.shared = shared

    def extra_repr(self):
        """Show the arguments."""
        return f"p={self.p}" + ("" if self.shared == "none" else f", shared={self.shared!r}")

    def attach(self, context, name=None):
        """Take the rate from a context.

        Parameters
        ----------
        context : Context
        name : str or None, default=None
            The hyperparameter that is the rate; None keeps `p`.

        Returns
        -------
        self : layer
        """
        self.context, self.name = context, name
        return self

    def forward(self, x):
        """Drop values of a batch, and scale the others up."""
        context = self.context
        if not self.training or (context is not None and not context.regularises):
            return x
        rate = self.p if self.name is None else context.value(self.name, x.shape[0], x.ndim)
        if self.name is None and not rate:
            return x
        generator = None if context is None else context.generator
        return drop(x, rate, generator, self.shared)


class HyperLockedDropout(HyperDropout):
    """Dropout that drops the same features at all steps of a sequence.

    Parameters
    ----------
    p : float, default=0.5
        Probability in [0, 1), where it is not tuned.

    Examples
    --------
    >>> import torch
    >>> from skhpo.self_tuning import HyperLockedDropout
    >>> dropped = HyperLockedDropout(0.5)(torch.ones(2, 7, 100))
    >>> torch.equal(dropped[:, 0], dropped[:, 6])
    True
    """

    def __init__(self, p=0.5):
        super().__init__(p, shared="time")


def drop(x, rate, generator=None, shared="none"):
    """Drop values of a batch at a rate that broadcasts with it; `shared` as in `HyperDropout`."""
    shape = x.shape
    if shared == "channel":
        shape = (*shape[:2], *[1] * (x.ndim - 2))
    elif shared == "time":
        shape = (shape[0], 1, *shape[2:])
    keep = 1 - rate
    noise = torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype)
    return x * noise.lt_(keep).div_(keep)


class HyperValue(nn.Module):
    """A user-defined hyperparameter, to be read in a module's ``forward``.

    Calling it with a batch gives the value for each example, in a shape that broadcasts with the
    batch. It is tuned under its `name`; in the collapsed module it returns the tuned value.

    Parameters
    ----------
    name : str
    value : float, default=0.0
        The value where it is not tuned.

    Examples
    --------
    >>> import torch
    >>> from skhpo.self_tuning import HyperValue
    >>> temperature = HyperValue("temperature", 2.0)
    >>> torch.ones(2, 3) / temperature(torch.ones(2, 3))
    tensor([[0.5000, 0.5000, 0.5000],
            [0.5000, 0.5000, 0.5000]])
    """

    context = None

    def __init__(self, name, value=0.0):
        super().__init__()
        self.name = name
        self.value = value

    def attach(self, context):
        """Take the value from a context."""
        self.context = context
        return self

    def get_extra_state(self):
        """Return the value, which is saved with the weights."""
        return torch.tensor(self.value, dtype=torch.float64)

    def set_extra_state(self, state):
        """Load the saved value."""
        self.value = state.item()

    def forward(self, x):
        """Return the value for each example of a batch, of shape (n or 1, 1, ...)."""
        context = self.context
        if context is None or context.values is None or self.name not in context.values:
            return x.new_full([1] * x.ndim, self.value)
        return context.value(self.name, x.shape[0], max(x.ndim, 2))
