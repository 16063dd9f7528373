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
    """Raise unless the joint forward pass does what the modules do one by one.

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
        If outputs differ, a parameter gets no gradient, or a module does more than a function of
        its tensors may.
    """
    alone = [_call(module, x, i) for i, (module, x) in enumerate(zip(modules, inputs, strict=True))]
    streams, forms.streams = forms.streams, [_stream(i) for i in range(len(modules))]
    buffers = {name: buffer.clone() for name, buffer in parameters.buffers.items()}
    part = parameters.part(0, len(modules))
    try:
        output = forms(torch.stack(inputs), part)
        if part.leaves:
            grads = torch.autograd.grad(output.sum(), part.leaves, allow_unused=True)
            if any(grad is None for grad in grads):
                raise LockstepError("a parameter has no part in the output")
    except LockstepError:
        raise
    except Exception as error:
        raise LockstepError(f"{type(error).__name__}: {error}") from error
    finally:
        forms.streams = streams
        with torch.no_grad():
            for name, buffer in parameters.buffers.items():
                buffer.copy_(buffers[name])
    alone = torch.stack(alone)
    scale = alone.abs().max().clamp(min=1)
    if output.shape != alone.shape or not (output - alone).abs().max() <= _TOLERANCE * scale:
        raise LockstepError(f"{type(modules[0]).__name__} computes something else in lockstep")


def _call(module, x, number):
    # What it changes of itself must not be seen by the training.
    module = copy.deepcopy(module)
    before = structure(module)
    for _ in range(3):  # another thread may have drawn meanwhile
        states = _global_states()
        with torch.no_grad(), OwnGenerators(_stream(number)):
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
    return output


def _global_states():
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    return random.getstate(), keys.tobytes(), position


def _stream(number):
    return Stream(number, "proof")
