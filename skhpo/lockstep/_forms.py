"""The forward pass of several nets as that of one network."""

from __future__ import annotations

from torch import nn

from ..modules import MLP, ConvNet
from ..training.direct import has_global_hooks, has_hooks
from ._errors import LockstepError
from ._layers import FORMS
from ._registry import LAYER_RULES
from ._traced import traced
from ._vmapped import vmapped

__all__ = ["Forms"]


class Forms:
    """The forward pass of nets that share a graph.

    Activations have the nets in front, (n_nets, n, ...). A layer that is known has a form for all
    nets at once. A module of somebody's own is traced with `torch.fx`; what its trace cannot show
    goes through `torch.func.vmap`.

    Parameters
    ----------
    modules : list of torch.nn.Module
        In the mode, training or evaluation, that the pass is for.
    streams : list of Stream
        What each net draws from.

    Attributes
    ----------
    views : dict of str to callable
        What the layers want of parameters, see `Parameters`.
    apart, transposed : set of str
    mixes_rows : bool
        Whether a row's output depends on the other rows of its batch: batches that are filled up
        with further rows would change it.
    unproven : bool
        Whether the modules have code that nobody has looked at.

    Raises
    ------
    LockstepError
    """

    def __init__(self, modules, streams):
        self.streams = streams
        self.views = {}
        self.apart = set()
        self.transposed = set()
        self.mixes_rows = False
        self.unproven = False
        self.on_keep = []
        self.positions = list(range(len(modules)))
        _refuse_shared_parameters(modules[0])
        _refuse_hooks(modules)
        self._root = self.form(modules, "")

    def __call__(self, x, part, lengths=None):
        """Return the output of shape (n_nets, n, ...).

        Parameters
        ----------
        x : Tensor of shape (n_nets, n, ...)
        part : Part
        lengths : list of int or None, default=None
            How many of the `n` rows each net really has; None means all.
        """
        return self._root(x, part, lengths)

    def keep(self, rows):
        """Drop all other nets."""
        self.streams = [self.streams[row] for row in rows]
        self.positions = [self.positions[row] for row in rows]
        for drop in self.on_keep:
            drop(rows)

    def of_net(self, items, row):
        """Return the item, of a list of all nets that there were, of the net in a row."""
        return items[self.positions[row]]

    def form(self, layers, name):
        """Return the form of layers: a function of ``(x, part, lengths)``.

        Parameters
        ----------
        layers : list of torch.nn.Module
            The same layer of each net.
        name : str
            Prefix of the names of their parameters.
        """
        kind = type(layers[0])
        if kind in (nn.Sequential, MLP, ConvNet):
            return self._sequence(layers, name)
        if kind in FORMS:
            return FORMS[kind](self, layers, name)
        self.unproven = self.mixes_rows = True
        if kind in LAYER_RULES:
            return LAYER_RULES[kind](self, layers, name)
        wanted = self.views, self.apart, self.transposed, self.on_keep
        copies = [type(of_layers)(of_layers) for of_layers in wanted]
        try:
            return traced(self, layers, name)
        except LockstepError:
            # A module that is called as it is wants its parameters as they are.
            self.views, self.apart, self.transposed, self.on_keep = copies
            return vmapped(self, layers, name)

    def _sequence(self, layers, name):
        children = [
            self.form([layer._modules[child] for layer in layers], f"{name}{child}.")
            for child in layers[0]._modules
        ]
        if isinstance(layers[0], MLP):
            children.insert(0, _flattened)
        elif isinstance(layers[0], ConvNet) and layers[0].is_gray:
            children.insert(0, _with_one_channel)

        def form(x, part, lengths):
            for child in children:
                x = child(x, part, lengths)
            return x

        return form


def _refuse_shared_parameters(module):
    named = list(module.named_parameters(remove_duplicate=False))
    if len({id(parameter) for _, parameter in named}) < len(named):
        raise LockstepError("layers share a parameter")


def _refuse_hooks(modules):
    if has_global_hooks():
        raise LockstepError("torch has global hooks")
    for module in modules:
        for name, layer in module.named_modules():
            if has_hooks(layer) or "forward" in vars(layer):
                raise LockstepError(f"{name or 'the module'} has hooks")


def _flattened(x, part, lengths):
    return x.flatten(2) if x.ndim > 3 else x


def _with_one_channel(x, part, lengths):
    return x.unsqueeze(2)
