"""The memory that a call allocates at its peak."""

from __future__ import annotations

import sys
import tracemalloc
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

__all__ = ["peak_bytes"]


def peak_bytes(call: Callable[[], Any]) -> int:
    """Return the bytes that a call holds at its peak, of Python, NumPy and torch.

    Parameters
    ----------
    call : callable
        Without arguments.
    """
    with ExitStack() as stack:
        if not tracemalloc.is_tracing():
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        tensors = None
        if "torch" in sys.modules:
            tensors = stack.enter_context(_tensors())
        result = call()
        _, peak = tracemalloc.get_traced_memory()
        del result
        return max(peak - before, 0 if tensors is None else tensors.peak - before)


def _tensors() -> Any:
    """Return a context that notes the largest sum of tensors that live and of what is traced."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Tensors(TorchDispatchMode):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
            self.live: dict[int, int] = {}  # bytes of storages that were made here
            self.total = self.peak = 0

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            given = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if _is_tensor(leaf)}
            result = function(*args, **(kwargs or {}))
            for leaf in tree_leaves(result):
                if _is_tensor(leaf) and _key(leaf) not in given and _key(leaf) not in self.live:
                    storage = leaf.untyped_storage()
                    self.live[_key(leaf)] = storage.nbytes()
                    self.total += storage.nbytes()
                    weakref.finalize(storage, self._drop, _key(leaf))
            traced, _ = tracemalloc.get_traced_memory()
            self.peak = max(self.peak, self.total + traced)
            return result

        def _drop(self, key: int) -> None:
            self.total -= self.live.pop(key)

    return Tensors()


def _is_tensor(value: Any) -> bool:
    torch: Any = sys.modules["torch"]
    return isinstance(value, torch.Tensor) and value.layout is torch.strided


def _key(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)
