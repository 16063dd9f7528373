"""Modules of somebody's own, traced: a graph of layers and functions that have lockstep forms."""

from __future__ import annotations

import operator

import torch
from torch import fx
from torch.nn import functional as F

from ..modules import MLP, ConvNet
from ..training.tracing import Tracer
from ._errors import LockstepError
from ._layers import Dropout, per_row
from ._registry import LAYER_RULES

__all__ = ["traced"]

_UNARY = {
    *(torch.relu, torch.tanh, torch.sigmoid, torch.exp, torch.log, torch.log1p, torch.sqrt),
    *(torch.abs, torch.square, torch.sin, torch.cos, torch.neg, torch.clamp, torch.erf),
    *(torch.rsqrt, torch.reciprocal, operator.neg),
    *(F.relu, F.relu6, F.tanh, F.sigmoid, F.gelu, F.silu, F.elu, F.selu, F.celu, F.mish),
    *(F.leaky_relu, F.softplus, F.softsign, F.logsigmoid, F.hardtanh, F.hardswish),
    *("relu", "tanh", "sigmoid", "exp", "log", "sqrt", "abs", "square", "neg", "clamp", "sin"),
    *("cos", "contiguous", "float", "double", "clone", "erf", "rsqrt", "reciprocal"),
}
_BINARY = {
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.pow),
    *(operator.floordiv, torch.add, torch.sub, torch.mul, torch.div, torch.pow),
    *(torch.maximum, torch.minimum),
    *("add", "sub", "mul", "div", "pow"),
}
_POOLS = {
    *(F.max_pool1d, F.max_pool2d, F.avg_pool1d, F.avg_pool2d),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_max_pool1d),
}
# Functions with dimensions: the name, the position and the default of the argument.
_WITH_DIM = {
    **dict.fromkeys((torch.softmax, F.softmax, "softmax"), "softmax"),
    **dict.fromkeys((torch.log_softmax, F.log_softmax, "log_softmax"), "log_softmax"),
    **dict.fromkeys((torch.mean, "mean"), "mean"),
    **dict.fromkeys((torch.sum, "sum"), "sum"),
    **dict.fromkeys((torch.amax, "amax"), "amax"),
    **dict.fromkeys((torch.amin, "amin"), "amin"),
    **dict.fromkeys((torch.unsqueeze, "unsqueeze"), "unsqueeze"),
    **dict.fromkeys((torch.squeeze, "squeeze"), "squeeze"),
}


class _Tracer(Tracer):
    def is_leaf_module(self, module, name):
        known = super().is_leaf_module(module, name) or type(module) in (MLP, ConvNet)
        return known or type(module) in LAYER_RULES


def traced(forms, layers, name):
    """Return the form of modules by tracing their ``forward``.

    Parameters
    ----------
    forms : Forms
    layers : list of torch.nn.Module
    name : str
        Prefix of the names of their parameters.

    Raises
    ------
    LockstepError
        If ``forward`` cannot be traced, or calls a function that has no lockstep form.
    """
    try:
        graph = _Tracer().trace(layers[0])
    except Exception as error:
        raise LockstepError(f"{type(layers[0]).__name__} cannot be traced: {error}") from error
    nodes = list(graph.nodes)
    inputs = [node for node in nodes if node.op == "placeholder"]
    if len([node for node in inputs if not node.args]) != 1 or inputs[0].args:
        raise LockstepError(f"{type(layers[0]).__name__} takes more than one input")
    called = {}
    calls = [_call(forms, layers, name, node, called) for node in nodes]

    def form(x, part, lengths):
        known = {inputs[0]: x}
        for node, call in zip(nodes, calls, strict=True):
            if call is None:
                known[node] = x if node is inputs[0] else node.args[0]
            else:
                known[node] = call(known, part)
        return known[nodes[-1]]

    return form


def _call(forms, layers, name, node, called):
    """Return what computes a node from those before it, as a function of ``(known, part)``."""
    if node.op == "placeholder":
        return None
    if node.op == "output":
        if not isinstance(node.args[0], fx.Node):
            raise LockstepError("forward returns more than one tensor")
        return lambda known, part: known[node.args[0]]
    if node.op == "get_attr":
        return _attribute(layers[0], name, node.target)
    if node.op == "call_module":
        if len(node.args) != 1 or node.kwargs:
            raise LockstepError(f"{node.target} is called with more than one argument")
        if node.target not in called:
            own = [layer.get_submodule(node.target) for layer in layers]
            called[node.target] = forms.form(own, f"{name}{node.target}.")
        form = called[node.target]
        return lambda known, part: form(known[node.args[0]], part, None)
    function = _function(forms, node)
    return lambda known, part: function(
        part, *fx.node.map_arg(node.args, known.get), **fx.node.map_arg(node.kwargs, known.get)
    )


def _attribute(layer, name, target):
    if target in dict(layer.named_parameters()):
        return lambda known, part: part.values[name + target]
    if target in dict(layer.named_buffers()):
        return lambda known, part: part.buffers[name + target]
    raise LockstepError(f"{target} is neither a parameter nor a buffer")


def _function(forms, node):
    """Return the lockstep form of a function or method, with `part` as its first argument."""
    target = node.target
    if node.op == "call_function" and isinstance(target, str):
        raise LockstepError(f"{target} has no lockstep form")
    if target in _UNARY:
        function = _method(target) if isinstance(target, str) else target
        return lambda part, x, *args, **kwargs: function(x, *args, **kwargs)
    if target in _BINARY:
        function = getattr(torch, target) if isinstance(target, str) else target
        return lambda part, a, b, **kwargs: function(*_aligned(a, b), **kwargs)
    if target in _POOLS:
        return lambda part, x, *args, **kwargs: per_row(lambda one: target(one, *args, **kwargs))(
            x, part, None
        )
    if target in _WITH_DIM:
        function = _method(_WITH_DIM[target])
        return lambda part, x, dim, **kwargs: function(x, _shifted(dim), **kwargs)
    if target is F.dropout:
        return _dropout(forms, node)
    special = _SPECIAL.get(target)
    if special is None:
        raise LockstepError(f"{target} has no lockstep form")
    return lambda part, *args, **kwargs: special(*args, **kwargs)


def _dropout(forms, node):
    rate = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
    training = node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True)
    if isinstance(rate, fx.Node) or isinstance(training, fx.Node):
        raise LockstepError("the rate of a dropout is computed")
    if not training:
        return lambda part, x, *args, **kwargs: x
    dropout = Dropout(forms, [float(rate)] * len(forms.streams))
    return lambda part, x, *args, **kwargs: dropout(x, part, None)


def _method(name):
    return getattr(torch.Tensor, name)


def _shifted(dim):
    """Return a dimension of a net's tensor as that of all nets'."""
    if isinstance(dim, list | tuple):
        return tuple(_shifted(one) for one in dim)
    if dim == 0:
        raise LockstepError("something runs over the rows of a batch")
    return dim + 1 if dim > 0 else dim


def _aligned(*tensors):
    """Give all tensors the same dimensions, new ones behind that of the nets."""
    most = max((t.ndim for t in tensors if isinstance(t, torch.Tensor)), default=0)
    return [
        t[(slice(None), *[None] * (most - t.ndim))]
        if isinstance(t, torch.Tensor) and 0 < t.ndim < most
        else t
        for t in tensors
    ]


def _flatten(x, start_dim=0, end_dim=-1):
    return x.flatten(_shifted(start_dim), _shifted(end_dim))


def _view(x, *shape):
    shape = shape[0] if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape
    return x.reshape(x.shape[0], *shape)


def _size(x, dim=None):
    return x.shape[1:] if dim is None else x.shape[dim + 1 if dim >= 0 else dim]


def _getattr(x, name):
    if name == "shape":
        return x.shape[1:]
    if name == "ndim":
        return x.ndim - 1
    raise LockstepError(f"the attribute {name} has no lockstep form")


def _getitem(x, index):
    if not isinstance(x, torch.Tensor):
        return x[index]
    index = index if isinstance(index, tuple) else (index,)
    if any(isinstance(one, torch.Tensor | list) for one in index):
        raise LockstepError("indexing by tensors has no lockstep form")
    return x[(slice(None), *index)]


def _cat(tensors, dim=0):
    return torch.cat(_aligned(*tensors), _shifted(dim))


def _permute(x, *dims):
    dims = dims[0] if len(dims) == 1 and isinstance(dims[0], list | tuple) else dims
    dims = [dim % (x.ndim - 1) for dim in dims]
    return x.permute(0, *[dim + 1 for dim in dims])


def _transpose(x, a, b):
    n_dims = x.ndim - 1
    return x.transpose(a % n_dims + 1, b % n_dims + 1)


def _matmul(a, b):
    if min(a.ndim, b.ndim) < 3:
        raise LockstepError("a product with a vector has no lockstep form")
    return torch.matmul(*_aligned(a, b))


def _linear(x, weight, bias=None):
    out = _matmul(x, weight.transpose(1, 2))
    return out if bias is None else torch.add(*_aligned(out, bias))


_SPECIAL = {
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
    **dict.fromkeys(("view", "reshape"), _view),
    "size": _size,
    getattr: _getattr,
    operator.getitem: _getitem,
    torch.cat: _cat,
    **dict.fromkeys((torch.permute, "permute"), _permute),
    **dict.fromkeys((torch.transpose, "transpose"), _transpose),
    **dict.fromkeys((torch.matmul, operator.matmul, "matmul"), _matmul),
    F.linear: _linear,
}
