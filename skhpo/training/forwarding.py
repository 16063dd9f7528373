"""From a batch of inputs to the arguments of a module's ``forward``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch

__all__ = ["arguments_for", "call_module"]


def call_module(module, inputs, fit_params=None):
    """Pass a batch through a module.

    Parameters
    ----------
    module : torch.nn.Module
    inputs : Tensor, dict, list or tuple
        The values of a dict are passed by name, those with an integer as name by position. The
        items of a list or tuple are passed as several arguments if the module needs as many.
        A key ``("lengths", name)`` has the lengths of padded sequences: they are passed as the
        arguments that are named so below, if the module has such.
    fit_params : dict, default=None
        Further arguments.

    Notes
    -----
    For the first sequence the arguments are ``lengths`` (a tensor on the CPU), ``mask`` or
    ``attention_mask`` (True where there is an item), and ``padding_mask``, ``key_padding_mask``
    or ``src_key_padding_mask`` (True where there is none); for an input ``text`` also
    ``text_lengths``, ``text_mask`` and so on.
    """
    args, named = arguments_for(module, inputs, fit_params)
    return module(*args, **named)


def arguments_for(module, inputs, fit_params=None):
    """Return the arguments of ``forward``, by position and by name; see `call_module`."""
    fit_params = fit_params or {}
    if isinstance(inputs, Mapping):
        args = [value for name, value in inputs.items() if isinstance(name, int)]
        named = {name: value for name, value in inputs.items() if isinstance(name, str)}
        lengths = {name[1]: v for name, v in inputs.items() if isinstance(name, tuple)}
        if lengths:
            named |= _arguments_of_lengths(module, inputs, lengths, {*named, *fit_params})
        if twice := named.keys() & fit_params.keys():
            raise ValueError(
                f"X and the arguments of fit must not have the same names, but both have "
                f"{', '.join(sorted(twice))}; leave it out in one of them"
            )
        return args, {**named, **fit_params}
    if type(inputs) in (list, tuple) and _n_needed(module) == len(inputs) > 1:
        return list(inputs), fit_params
    return [inputs], fit_params


def _parameters(module):
    module = getattr(module, "_orig_mod", module)  # of a compiled one
    try:
        return inspect.signature(module.forward).parameters
    except (TypeError, ValueError):
        return {}


def _n_needed(module):
    """Return how many arguments a module must be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = _parameters(module).values()
    return sum(one.kind in kinds and one.default is one.empty for one in found)


def _arguments_of_lengths(module, inputs, lengths, taken):
    arguments = {}
    known = _parameters(module).keys() - taken
    for number, (name, values) in enumerate(lengths.items()):
        prefixes = ([""] if number == 0 else []) + ([f"{name}_"] if isinstance(name, str) else [])
        for prefix in prefixes:
            for suffix, make in _FROM_LENGTHS.items():
                if prefix + suffix in known:
                    arguments[prefix + suffix] = make(inputs[name], values)
    return arguments


def _lengths(padded, lengths):
    return lengths.cpu()  # where torch's packed sequences need them


def _mask(padded, lengths):
    place = torch.arange(padded.shape[1], device=padded.device)
    return place < lengths.to(padded.device)[:, None]


def _padding(padded, lengths):
    return ~_mask(padded, lengths)


_FROM_LENGTHS = {
    "lengths": _lengths,
    "mask": _mask,
    "attention_mask": _mask,
    "padding_mask": _padding,
    "key_padding_mask": _padding,
    "src_key_padding_mask": _padding,
}
