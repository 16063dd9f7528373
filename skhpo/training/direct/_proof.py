"""What is known from its graph alone is tried: a few rows, by its rule and by autograd."""

from __future__ import annotations

import copy

import torch

from ..randomness import OwnGenerators, Stream
from ._layers import make_rule
from ._masks import Masks
from ._place import Unknown

__all__ = ["prove"]


def prove(module, place, dtype):
    """Raise unless the rule of a module computes what the module and autograd do.

    A graph does not say that gradients are turned off or replaced, in which precision is computed,
    or what else than tensors a ``forward`` reads.

    Parameters
    ----------
    module : torch.nn.Module
        Left as it is.
    place : Place
        Of the module. The gradients are written to.
    dtype : torch.dtype
        Of the input.

    Raises
    ------
    Unknown
    """
    theirs = copy.deepcopy(module)
    shape, device = place.shape, next(module.parameters()).device
    generator = torch.Generator().manual_seed(0)
    # Integers are positions in tables, the first of which is always there.
    x = torch.zeros(shape, dtype=dtype, device=device)
    if dtype.is_floating_point:
        x.copy_(torch.randn(shape, generator=generator))
    masks = Masks(_stream().generator) if device.type == "cpu" else None
    clones = {buffer: buffer.clone() for buffer in place.buffers.values()}
    buffers = {name: clones[buffer] for name, buffer in place.buffers.items()}
    place = place.at(buffers=buffers, draw_mask=masks, read=set())
    rule = make_rule(module, place)
    with torch.no_grad():
        output = rule.forward(x.clone()).clone()
        slopes = torch.randn(output.shape, generator=generator).to(output)
        rule.backward(slopes.clone())
    with torch.enable_grad(), OwnGenerators(_stream()):
        wanted = theirs(x)
    if not isinstance(wanted, torch.Tensor):
        raise Unknown("forward returns no tensor")
    found, expected = {"the output": output}, {"the output": wanted.detach()}
    trained = {name: p for name, p in theirs.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(wanted, trained.values(), slopes, allow_unused=True)
    expected |= {k: g for k, g in zip(trained, gradients, strict=True) if g is not None}
    found |= {k: place.parameters[k][1] for k in trained if k in place.read}
    found |= {name: buffers[name] for name, _ in theirs.named_buffers()}
    expected |= dict(theirs.named_buffers())
    differ = {k for k in expected if k in found and not _is_close(found[k], expected[k])}
    differ |= found.keys() ^ expected.keys()
    if differ:
        raise Unknown(f"autograd finds something else for {', '.join(sorted(differ))}")


def _stream():
    return Stream(0, "proof")


def _is_close(found, wanted):
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    if not found.is_floating_point() or not found.numel():
        return torch.equal(found, wanted)
    tolerance = torch.finfo(found.dtype).eps ** 0.5 * wanted.abs().max().clamp(min=1)
    return bool((found - wanted).abs().max() <= tolerance)
