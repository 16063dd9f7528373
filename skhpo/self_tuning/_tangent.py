"""Values that carry a tangent through a module's ``forward``.

A layer that responds returns a `Dual`: the output with the layer's own weights, and its derivative
in the direction in which the response changes the weights. Later operations propagate both by the
rules below, or by torch's forward-mode differentiation of a single function where there is no
rule. Values have no gradient; tangents have one with respect to the response alone. This is the
linearised network f(W_0) + J dw of Bae and Grosse (2020).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

__all__ = ["Dual"]


class Dual:
    """A value and its tangent, tensors of one shape; functions and methods of torch accept it."""

    __slots__ = ("tangent", "value")

    def __init__(self, value, tangent):
        self.value = value
        self.tangent = tangent

    def linearised(self):
        """Return the value plus the tangent."""
        return self.value + self.tangent

    def __getattr__(self, name):
        attribute = getattr(torch.Tensor, name)
        if not callable(attribute):
            return getattr(self.value, name)

        def method(*args, **kwargs):
            return Dual.__torch_function__(attribute, (), (self, *args), kwargs)

        return method

    def __len__(self):
        return len(self.value)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _ABOUT:
            return func(*_values(args), **kwargs)
        rule = _RULES.get(name)
        if rule is not None:
            return rule(func, *args, **kwargs)
        if name in _LINEAR:
            return _linear(func, args, kwargs)
        return _differentiated(func, args, kwargs)


def _binary(name):
    def method(self, other):
        return Dual.__torch_function__(getattr(torch.Tensor, name), (), (self, other))

    return method


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "pow", "matmul", "getitem"):
    setattr(Dual, f"__{_name}__", _binary(f"__{_name}__"))
Dual.__neg__ = lambda self: Dual(-self.value, -self.tangent)

# Functions of the value alone.
_ABOUT = {"size", "dim", "numel", "is_floating_point", "ndimension", "stride", "is_contiguous"}
# Functions that are linear in all tensor arguments: they map tangents as they map values.
_LINEAR = {
    *("flatten", "view", "reshape", "transpose", "permute", "unsqueeze", "squeeze", "mean", "sum"),
    *("contiguous", "expand", "chunk", "split", "unbind", "select", "narrow", "movedim", "t"),
    *("cat", "stack", "pad", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "roll", "flip"),
    *("adaptive_avg_pool2d", "upsample", "interpolate", "unflatten", "__getitem__", "view_as"),
    *("to", "float", "repeat", "repeat_interleave", "swapaxes", "cumsum", "identity"),
}


def _values(args):
    return tuple(_map(arg, lambda dual: dual.value) for arg in args)


def _map(arg, change):
    if isinstance(arg, Dual):
        return change(arg)
    if isinstance(arg, list | tuple):
        return type(arg)(_map(item, change) for item in arg)
    return arg


def _tangents(arg):
    """Replace duals by their tangents, and tensors beside them by zeros."""
    if isinstance(arg, Dual):
        return arg.tangent
    if isinstance(arg, torch.Tensor) and arg.is_floating_point():
        return torch.zeros_like(arg)
    if isinstance(arg, list | tuple):
        return type(arg)(_tangents(item) for item in arg)
    return arg


def _pair(value, tangent):
    if isinstance(value, list | tuple):
        return type(value)(map(_pair, value, tangent))
    return Dual(value, tangent)


def _linear(func, args, kwargs):
    tangent = func(*map(_tangents, args), **kwargs)
    with torch.no_grad():
        value = func(*_values(args), **kwargs)
    return _pair(value, tangent)


def _differentiated(func, args, kwargs):
    places = [i for i, arg in enumerate(args) if isinstance(arg, Dual)]
    if not places or len(places) < sum(_map_count(arg) for arg in args):
        raise NotImplementedError(_refusal(func))
    fixed = list(args)

    def of_values(*values):
        for place, value in zip(places, values, strict=True):
            fixed[place] = value
        return func(*fixed, **kwargs)

    values = tuple(args[i].value for i in places)
    tangents = tuple(args[i].tangent for i in places)
    try:
        value, tangent = torch.func.jvp(of_values, values, tangents)
    except NotImplementedError as error:
        raise NotImplementedError(_refusal(func)) from error
    return _pair(_detached(value), tangent)


def _refusal(func):
    name = getattr(func, "__name__", func)
    return f"variant='delta' cannot linearise {name}; use variant='stn'"


def _map_count(arg):
    if isinstance(arg, Dual):
        return 1
    return sum(map(_map_count, arg)) if isinstance(arg, list | tuple) else 0


def _detached(value):
    if isinstance(value, list | tuple):
        return type(value)(map(_detached, value))
    return value.detach()


def _of_weights(func, x, weight, bias=None, *args, **kwargs):
    # A layer that does not respond: its weights are constants.
    if isinstance(weight, Dual) or isinstance(bias, Dual):
        return _differentiated(func, (x, weight, bias, *args), kwargs)
    with torch.no_grad():
        value = func(x.value, weight, bias, *args, **kwargs)
    return Dual(value, func(x.tangent, weight.detach(), None, *args, **kwargs))


def _relu(func, x, inplace=False):
    value = torch.relu(x.value)
    return Dual(value, x.tangent * (value > 0))


def _tanh(func, x):
    value = torch.tanh(x.value)
    return Dual(value, x.tangent * (1 - value * value))


def _sigmoid(func, x):
    value = torch.sigmoid(x.value)
    return Dual(value, x.tangent * (value * (1 - value)))


def _leaky_relu(func, x, negative_slope=0.01, inplace=False):
    slope = torch.ones_like(x.value).masked_fill_(x.value <= 0, negative_slope)
    return Dual(x.value * slope, x.tangent * slope)


def _max_pool(func, x, *args, **kwargs):
    kwargs.pop("return_indices", None)
    pool = F.max_pool1d if x.value.ndim == 3 and func.__name__.endswith("1d") else F.max_pool2d
    # Positional: kernel_size, stride, padding, dilation, ceil_mode.
    value, index = pool(x.value, *args[:5], return_indices=True, **kwargs)
    n_spatial = 1 if pool is F.max_pool1d else 2
    tangent = x.tangent.flatten(-n_spatial).gather(-1, index.flatten(-n_spatial))
    return Dual(value, tangent.view(value.shape))


def _batch_norm(
    func, x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5, *_
):
    # Statistics are constants; unperturbed passes update them.
    if training or mean is None:
        axes = [0, *range(2, x.value.ndim)]
        var, mean = torch.var_mean(x.value, axes, correction=0)
    shape = (1, -1, *[1] * (x.value.ndim - 2))
    factor = torch.rsqrt(var + eps)
    if weight is not None:
        factor = factor * weight.detach()
    factor = factor.view(shape)
    value = (x.value - mean.view(shape)) * factor
    if bias is not None:
        value = value + bias.detach().view(shape)
    return Dual(value, x.tangent * factor)


def _add(func, a, b, *, alpha=1):
    return _sum(a, b, alpha)


def _sub(func, a, b, *, alpha=1):
    return _sum(a, b, -alpha)


def _sum(a, b, alpha):
    values = _values((a, b))
    value = values[0] + alpha * values[1]
    if isinstance(a, Dual) and isinstance(b, Dual):
        return Dual(value, a.tangent + alpha * b.tangent)
    tangent = a.tangent if isinstance(a, Dual) else alpha * b.tangent
    return Dual(value, tangent.expand_as(value))


def _rsub(func, a, b):
    return _sum(b, a, -1)


def _mul(func, a, b):
    if isinstance(a, Dual) and isinstance(b, Dual):
        return Dual(a.value * b.value, a.tangent * b.value + a.value * b.tangent)
    dual, other = (a, b) if isinstance(a, Dual) else (b, a)
    return Dual(dual.value * other, dual.tangent * other)


def _div(func, a, b, **kwargs):
    if isinstance(b, Dual) or kwargs:
        return _differentiated(func, (a, b), kwargs)
    return Dual(a.value / b, a.tangent / b)


_RULES = {
    **dict.fromkeys(("relu", "relu_"), _relu),
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), _of_weights),
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "leaky_relu": _leaky_relu,
    **dict.fromkeys(("max_pool1d", "max_pool2d", "boolean_dispatch"), _max_pool),
    **dict.fromkeys(("_max_pool1d", "_max_pool2d"), _max_pool),
    "batch_norm": _batch_norm,
    **dict.fromkeys(("add", "__add__", "__radd__"), _add),
    **dict.fromkeys(("sub", "__sub__"), _sub),
    "__rsub__": _rsub,
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "multiply"), _mul),
    **dict.fromkeys(("div", "__truediv__"), _div),
}
