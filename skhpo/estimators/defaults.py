"""Which settings of a net's components differ from their defaults."""

from __future__ import annotations

import numbers

__all__ = ["arguments_of_callbacks", "changed_settings", "same_value"]


def changed_settings(net, component):
    """Return the settings of a component that differ from what holds without them.

    These alone may choose between implementations: a parameter that is set to the value that it
    has anyway changes nothing, not even rounding.

    Parameters
    ----------
    net : TorchEstimator
    component : str
        "callbacks", "module", "criterion", "iterator_train", "dataset", ...

    Returns
    -------
    settings : dict of str to object
        From argument to value.
    """
    prefix = component + "__"
    own = {k.removeprefix(prefix): v for k, v in vars(net).items() if k.startswith(prefix)}
    if not own:
        return {}
    if component == "callbacks":
        defaults = arguments_of_callbacks(dict(net._default_callbacks))
    else:
        defaults = net._arguments_of(component) or {}
    return {k: v for k, v in own.items() if k not in defaults or not same_value(v, defaults[k])}


def arguments_of_callbacks(callbacks):
    """Return callbacks by name, and their parameters by theirs: ``"print_log__sink"``."""
    known = {}
    for name, callback in callbacks.items():
        known[name] = callback
        arguments = callback.get_params() if hasattr(callback, "get_params") else {}
        known |= {f"{name}__{argument}": value for argument, value in arguments.items()}
    return known


def same_value(one, other):
    """Tell whether two values of a parameter are surely the same."""
    if one is other:
        return True
    if type(one) is type(other) and hasattr(one, "get_params"):
        ours, theirs = one.get_params(deep=False), other.get_params(deep=False)
        return ours.keys() == theirs.keys() and all(same_value(ours[k], theirs[k]) for k in ours)
    kinds = (numbers.Number, str)
    return isinstance(one, kinds) and isinstance(other, kinds) and one == other
