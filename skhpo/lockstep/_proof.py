"""Code that nobody has looked at is tried: a batch, in lockstep and net by net."""

from __future__ import annotations

import copy
import random

import numpy as np
import torch

from ..training.randomness import OwnGenerators, Stream
from ._errors import LockstepError
from ._graph import structure

__all__ = ["prove"]

_TOLERANCE = 1e-4


def prove(forms, parameters, modules, inputs):
    """Raise unless joint passes, forward and backward, do what the modules do one by one.

    Parameters
    ----------
    forms : Forms
    parameters : Parameters
    modules : list of torch.nn.Module
        They are left as they were.
    inputs : list of Tensor of shape (n, ...)
        A batch for each net.

    Raises
    ------
    LockstepError
        If outputs or gradients differ, a parameter gets no gradient, or a module does more than a
        function of its tensors may.
    """
    pairs = enumerate(zip(modules, inputs, strict=True))
    learn = any(block.trained for block in parameters.blocks)
    alone, gradients = zip(*(_call(module, x, i, learn) for i, (module, x) in pairs), strict=True)
    streams, forms.streams = forms.streams, [_stream(i) for i in range(len(modules))]
    buffers = {name: buffer.clone() for name, buffer in parameters.buffers.items()}
    part = parameters.part(0, len(modules))
    try:
        output = forms(torch.stack(inputs), part)
        if part.leaves:
            slopes = _slopes(output[0]).expand_as(output)
            grads = torch.autograd.grad(output, part.leaves, slopes, allow_unused=True)
            if any(grad is None for grad in grads):
                raise LockstepError("a parameter has no part in the output")
            for own, grad in zip(part.grads, grads, strict=True):
                own.copy_(grad)
    except LockstepError:
        raise
    except Exception as error:
        raise LockstepError(f"{type(error).__name__}: {error}") from error
    finally:
        forms.streams = streams
        with torch.no_grad():
            for name, buffer in parameters.buffers.items():
                buffer.copy_(buffers[name])
    name = type(modules[0]).__name__
    if not _is_close(output, alone):
        raise LockstepError(f"{name} computes something else in lockstep")
    for parameter, (_, found) in parameters.pairs(0, len(modules)).items():
        wanted = [gradient.get(parameter) for gradient in gradients]
        if found is not None and not _is_close(found, wanted):
            raise LockstepError(f"{name} has other gradients of {parameter} in lockstep")
    for block in parameters.blocks:
        block.grads.zero_()


def _slopes(output):
    """Return a gradient of an output whose numbers differ."""
    return torch.linspace(1, 2, output.numel()).to(output).view_as(output)


def _is_close(found, wanted):
    if any(one is None or one.shape != found.shape[1:] for one in wanted):
        return False
    wanted = torch.stack(wanted)
    scale = wanted.abs().max().clamp(min=1)
    return bool((found - wanted).abs().max() <= _TOLERANCE * scale)


def _call(module, x, number, learn):
    """Return the output of a module for a batch, and the gradients of what is trained, by name."""
    # What it changes of itself must not be seen by the training.
    module = copy.deepcopy(module)
    before = structure(module)
    for _ in range(3):  # another thread may have drawn meanwhile
        states = _global_states()
        with torch.set_grad_enabled(learn), OwnGenerators(_stream(number)):
            output = module(x)
        if _global_states() == states:
            break
    else:
        raise LockstepError(f"{type(module).__name__} draws from a global generator")
    name = type(module).__name__
    if not isinstance(output, torch.Tensor):
        raise LockstepError(f"{name} returns no single tensor")
    if structure(module) != before:
        raise LockstepError(f"{name} changes itself when it is called")
    trained = {k: p for k, p in module.named_parameters() if p.requires_grad}
    if not output.requires_grad:
        return output, {}
    slopes = _slopes(output)
    gradients = torch.autograd.grad(output, trained.values(), slopes, allow_unused=True)
    return output.detach(), dict(zip(trained, gradients, strict=True))


def _global_states():
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    return random.getstate(), keys.tobytes(), position


def _stream(number):
    return Stream(number, "proof")
