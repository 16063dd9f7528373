"""Modes of torch that a caller may have switched, and in which nothing can be trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["usual_modes"]


@contextlib.contextmanager
def usual_modes() -> Iterator[None]:
    """Record gradients within this context, make plain tensors, and make them on the CPU.

    Whoever calls may be in `torch.no_grad` or `torch.inference_mode`, whose tensors autograd can
    never use, or have set another default device. Precisions (autocast, the default type) stay.
    Also a decorator.
    """
    with contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        # A mode that sees each call of torch: only where one is needed.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
