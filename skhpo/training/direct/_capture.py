"""Passes as CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Captured"]

_log = logging.getLogger(__name__)
# Calls before the capture, in which torch's libraries and rules allocate what they keep. Torch's
# notes on CUDA graphs recommend three.
_WARM_UP = 3


class CudaGraph:
    """Captured kernels of a function without arguments; other threads may use the GPU meanwhile.

    A replay writes the function's result into `out`.
    """

    def __init__(self, function: Callable[[], torch.Tensor]) -> None:
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

    def replay(self) -> None:
        """Run the kernels."""
        self._graph.replay()


class Captured:
    """A function of tensors that is captured once, and replayed with other values.

    The tensors have the same shapes in each call; other memory that the function uses must not
    move. `capture` maps a function without arguments to its replay.
    """

    def __init__(
        self,
        function: Callable[..., torch.Tensor],
        capture: Callable[[Callable[[], torch.Tensor]], Any] | None = CudaGraph,
    ) -> None:
        self._function = function
        self._capture = capture
        self._n_calls = 0
        self._graph: Any = None

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Return the function's result as a new tensor."""
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
        out: torch.Tensor = self._graph.out
        return out.clone()
