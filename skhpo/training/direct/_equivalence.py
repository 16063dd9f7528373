"""Comparison of rules with autograd for a few rows, for user-defined modules."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch

from ..randomness import Masks, OwnGenerators, Stream
from ..structure import structure
from ._graph import global_states
from ._layers import make_rule
from ._rules import Place, Unknown, users_code

__all__ = ["find_differences"]


def find_differences(modules: Any, place: Place, x: torch.Tensor) -> Any:
    """Return the names of parameters, buffers and "the output" for which rules and autograd differ.

    They differ if ``forward`` does what a graph does not show: disabled or replaced gradients,
    another precision, reading other objects than tensors.

    Parameters
    ----------
    modules : list of torch.nn.Module
        The networks of the place; not changed.
    place : Place
        Its gradients are overwritten.
    x : Tensor of shape (n, ...) or (n_networks, n, ...)

    Raises
    ------
    Unknown
        If a module has side effects.
    """
    is_single, networks = place.n_networks is None, place.networks
    clones = {buffer: buffer.clone() for buffer in place.buffers.values()}
    buffers = {name: clones[buffer] for name, buffer in place.buffers.items()}
    if networks is not None:
        streams = [_stream(i) for i in range(len(modules))]
        networks = dataclasses.replace(networks, streams=streams, parts=[])
    draw_mask = place.draw_mask and (Masks(_stream(0).generator) if is_single else networks.draw)
    place = place.at(buffers=buffers, draw_mask=draw_mask, networks=networks, read=set())
    rule = make_rule(modules[0], place)
    learns = any(gradient is not None for _, gradient in place.parameters.values())
    with torch.no_grad():
        output = rule.forward(x.clone()).clone()
        slopes = torch.linspace(1, 2, output.numel()).to(output).view_as(output)
        if learns:
            rule.backward(slopes.clone())
    found = {"the output": output, **buffers}
    found |= {k: g for k, (_, g) in place.parameters.items() if k in place.read and g is not None}
    if is_single:
        found, x, slopes = {k: v[None] for k, v in found.items()}, x[None], slopes[None]
    with torch.set_grad_enabled(learns):
        wanted = [_call(*one) for one in zip(modules, x, slopes, range(len(x)), strict=True)]
    names = found.keys() | set().union(*wanted)
    return {k for k in names if not _is_close(found.get(k), [w.get(k) for w in wanted])}


def _call(module: Any, x: torch.Tensor, slopes: Any, number: Any) -> Any:
    """Return the output of a module, its gradients and its buffers by name."""
    name = type(module).__name__
    with users_code(f"{name} cannot be copied"):
        module = copy.deepcopy(module)
    before = structure(module)
    for _ in range(3):  # another thread may have drawn in the meantime
        states = global_states()
        with OwnGenerators(_stream(number)), users_code(name):
            output = module(x)
        if global_states() == states:
            break
    else:
        raise Unknown(f"{name} draws from a global generator")
    if not isinstance(output, torch.Tensor):
        raise Unknown(f"{name} returns no single tensor")
    if structure(module) != before:
        raise Unknown(f"{name} changes itself when it is called")
    found = {"the output": output.detach()}
    if output.requires_grad and output.shape == slopes.shape:
        trained = {k: p for k, p in module.named_parameters() if p.requires_grad}
        with users_code(name):
            gradients = torch.autograd.grad(
                output, tuple(trained.values()), slopes.to(output.dtype), allow_unused=True
            )
        found |= {k: g for k, g in zip(trained, gradients, strict=True) if g is not None}
    return found | dict(module.named_buffers())


def _stream(number: Any) -> Any:
    return Stream(number, "proof")


def _is_close(found: Any, wanted: Any) -> Any:
    """Whether a tensor of all networks is close to those of the single networks."""
    if found is None or any(w is None or w.shape != found.shape[1:] for w in wanted):
        return False
    wanted = torch.stack(wanted)
    if not found.is_floating_point() or not found.numel():
        return torch.equal(found, wanted)
    tolerance = torch.finfo(found.dtype).eps ** 0.5 * wanted.abs().max().clamp(min=1)
    return bool((found - wanted).abs().max() <= tolerance)
