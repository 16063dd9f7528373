"""Passes that a GPU replays without the CPU."""

from __future__ import annotations

import logging

import torch

__all__ = ["Captured"]

_log = logging.getLogger(__name__)
# Calls before a function is captured: what torch's libraries set up, and what rules keep, must be
# there. Torch's notes on CUDA graphs ask for three.
_WARM_UP = 3


class CudaGraph:
    """A function's kernels, without running them.

    Other threads may use the GPU meanwhile.

    Parameters
    ----------
    function : callable
        Of no argument, returns a tensor.

    Attributes
    ----------
    out : Tensor
        Where a replay leaves what the function returns.
    """

    def __init__(self, function):
        self._graph = torch.cuda.CUDAGraph()
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            self._graph.capture_begin(capture_error_mode="thread_local")
            try:
                self.out = function()
            finally:
                self._graph.capture_end()
        current.wait_stream(side)

    def replay(self):
        """Run the kernels."""
        self._graph.replay()


class Captured:
    """A function of tensors that is captured once, and replayed with other numbers in them.

    Parameters
    ----------
    function : callable
        Takes tensors of the same shapes in each call, and returns a tensor. Whatever else it
        reads or writes must be where it was.
    capture : callable, default=CudaGraph
        From a function of no argument to what replays it.
    """

    def __init__(self, function, capture=CudaGraph):
        self._function = function
        self._capture = capture
        self._n_calls = 0
        self._graph = None

    def __call__(self, *tensors):
        """Return what the function returns, as a tensor of its own."""
        self._n_calls += 1
        if self._n_calls <= _WARM_UP or self._capture is None:
            return self._function(*tensors)
        if self._graph is None:
            self._inputs = [tensor.clone() for tensor in tensors]
            try:
                self._graph = self._capture(lambda: self._function(*self._inputs))
            except RuntimeError as error:
                _log.debug("steps without autograd are not captured: %s", error)
                self._capture = None
                return self._function(*tensors)
        for own, tensor in zip(self._inputs, tensors, strict=True):
            own.copy_(tensor)
        self._graph.replay()
        return self._graph.out.clone()
