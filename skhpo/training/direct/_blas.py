"""Products of matrices by OpenBLAS, where torch's own library leaves half of a processor unused.

Torch multiplies by Intel's MKL, which computes with vectors of 256 bits on processors of AMD even
if these have AVX-512. A copy of OpenBLAS that nothing else uses (the package `scipy-openblas32`)
computes with 512, and takes half the time or less for the sizes of a training step.

Which library multiplies depends on the processor and on shapes alone, never on the number of
threads, so that a fit is the same in this process and in a worker.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

__all__ = ["Product", "keep_one_thread", "product_of"]

Product = Callable[..., torch.Tensor]

_WITH_AVX512 = {b"SkylakeX", b"Cooperlake", b"Sapphirerapids"}
_BY_ROWS, _AS_IS, _TRANSPOSED = 101, 111, 112  # of cblas.h
_FUNCTIONS = {torch.float32: ("sgemm", ctypes.c_float), torch.float64: ("dgemm", ctypes.c_double)}
# Larger products of one network gain more from torch's threads, which do not change its rounding.
_MOST_OPERATIONS = 2**24
# Products of several networks are divided among threads in parts of at least 0.15 ms.
_OPERATIONS_OF_PART = 2**25


def product_of(weight: torch.Tensor) -> Product:
    """Return what multiplies rows and a weight, or gradients of either, as ``torch.mm`` does.

    As ``torch.bmm`` if the weight has three dimensions, those of several networks.
    """
    many = weight.ndim > 2
    torchs = torch.bmm if many else torch.mm
    if weight.device.type != "cpu" or weight.dtype not in _FUNCTIONS:
        return torchs
    if library() is None:
        return torchs
    keep_one_thread()
    return _Product(_function(weight.dtype, many=many), torchs)


def keep_one_thread() -> None:
    """Compute products of this library in one thread, as several may round in another way.

    To be called before an epoch, because those who set the threads of all libraries, as
    threadpoolctl, set those of this one, too.
    """
    # A library that is not loaded has made no products.
    loaded = library() if load.cache_info().currsize else None
    if loaded is not None and loaded.scipy_openblas_get_num_threads() != 1:
        loaded.scipy_openblas_set_num_threads(1)


class _Product:
    """The product of two matrices, or of two batches of matrices, of one dtype.

    It is prepared for the shapes, and layouts in memory, of the last call.
    """

    def __init__(self, call: Any, torchs: Callable[..., torch.Tensor]) -> None:
        self._call, self._torchs = call, torchs
        self._layout: object = None

    def __call__(
        self, a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        if out is None:
            out = a.new_empty(*a.shape[:-1], b.shape[-1])
        layout = a.shape, a.stride(), b.shape, b.stride(), out.stride()
        if layout != self._layout:
            self._multiply = self._make(a, b, out)
            self._layout = layout
        self._multiply(a, b, out)
        return out

    def _make(self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> Callable[..., object]:
        """Return the product of tensors that lie in memory as these do."""
        if not _can_multiply(a, b, out):
            return lambda a, b, out: self._torchs(a, b, out=out)
        (m, k), n = a.shape[-2:], b.shape[-1]
        (of_a, step_a), (of_b, step_b), (_, step) = (_layout(t) for t in (a, b, out))
        # Numbers are converted for C here, not in each call.
        call, (whole, *_, real) = self._call, self._call.argtypes[:7]
        head = (*map(whole, (_BY_ROWS, of_a, of_b, m, n, k)), real(1))
        step_a, step_b, step, zero = whole(step_a), whole(step_b), whole(step), real(0)
        if a.ndim == 2:
            return lambda a, b, out: call(
                *head, a.data_ptr(), step_a, b.data_ptr(), step_b, zero, out.data_ptr(), step
            )
        each_a, each_b, each = (whole(t.stride(0)) for t in (a, b, out))

        def multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
            of_a, of_b = (a.data_ptr(), step_a, each_a), (b.data_ptr(), step_b, each_b)
            call(*head, *of_a, *of_b, zero, out.data_ptr(), step, each, a.size(0))

        n_parts = 2 * m * k * n * len(a) // _OPERATIONS_OF_PART
        return multiply if n_parts < 2 else functools.partial(_divided, multiply, n_parts)


def _can_multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> bool:
    """Whether shapes and layouts are those of a product that is faster; otherwise torch checks."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    if b.shape != (*a.shape[:-2], k, n) or out.shape != (*a.shape[:-2], m, n):
        return False
    if not 0 < 2 * m * k * n <= _MOST_OPERATIONS or any(_layout(t)[1] == 0 for t in (a, b)):
        return False
    order, step = _layout(out)
    return order == _AS_IS and step > 0


def _divided(
    multiply: Callable[..., object], n_parts: int, a: torch.Tensor, b: torch.Tensor, out: Any
) -> None:
    """Multiply the matrices of several networks in as many threads as torch would use."""
    n_parts = min(n_parts, torch.get_num_threads(), len(a))
    if n_parts < 2:
        multiply(a, b, out)
        return
    parts = zip(*(t.tensor_split(n_parts) for t in (a, b, out)), strict=True)
    # The parts keep the tensors alive if this thread is interrupted.
    running = [_threads().submit(multiply, *part) for part in parts]
    for part in running:
        part.result()


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="products")


# A child has no threads of its parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)


def _layout(matrices: torch.Tensor) -> tuple[int, int]:
    """Return how matrices lie in memory, and the step between rows (columns if transposed).

    The step is 0 if neither rows nor columns lie together.
    """
    n_rows, n_columns = matrices.shape[-2:]
    of_rows, of_columns = matrices.stride()[-2:]
    # The step of the only row, or column, may be anything.
    if of_columns == 1 or n_columns == 1:
        step = n_columns if n_rows == 1 else of_rows
        if step >= n_columns:
            return _AS_IS, step
    if of_rows == 1 or n_rows == 1:
        step = n_rows if n_columns == 1 else of_columns
        if step >= n_rows:
            return _TRANSPOSED, step
    return _AS_IS, 0


@functools.cache
def _function(dtype: torch.dtype, *, many: bool) -> Any:
    loaded = load()
    name, real = _FUNCTIONS[dtype]
    whole, address = ctypes.c_int, ctypes.c_void_p
    matrix = [address, whole, whole] if many else [address, whole]
    function = getattr(loaded, f"scipy_cblas_{name}{'_batch_strided' if many else ''}")
    function.restype = None
    function.argtypes = [*[whole] * 6, real, *matrix, *matrix, real, *matrix, *[whole] * many]
    return function


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return OpenBLAS with kernels for AVX-512; None where torch's products are as fast.

    It is not used if the environment chooses kernels that round in another way (`MKL_CBWR`,
    `ATEN_CPU_CAPABILITY`) or kernels of OpenBLAS without AVX-512 (`OPENBLAS_CORETYPE`).
    """
    loaded = load() if _is_slow_in_torch() and "MKL_CBWR" not in os.environ else None
    if loaded is None:
        return None
    loaded.scipy_openblas_get_corename.restype = ctypes.c_char_p
    is_faster = loaded.scipy_openblas_get_corename() in _WITH_AVX512
    return loaded if is_faster and all(map(_is_right, _FUNCTIONS)) else None


@functools.cache
def load() -> ctypes.CDLL | None:
    """Return OpenBLAS, in one thread; None if it is not installed."""
    found = importlib.util.find_spec("scipy_openblas32")
    for folder in found.submodule_search_locations or () if found else ():
        for file in Path(folder, "lib").glob("libscipy_openblas*.so"):
            with suppress(OSError, AttributeError):
                loaded = ctypes.CDLL(str(file))
                _ = loaded.scipy_cblas_sgemm_batch_strided  # since 0.3.34.481
                loaded.scipy_openblas_set_num_threads(1)
                return loaded
    return None


def _is_right(dtype: torch.dtype) -> bool:
    """Whether products are right on this processor, which the library may not know."""
    a = torch.arange(-4.0, 4.0, 0.005, dtype=dtype, device="cpu").sin_().view(4, 20, 20)
    left, right = (a, a.mT), (a[:, :17], a[:, 3:].mT)
    for many, torchs in ((True, torch.bmm), (False, torch.mm)):
        for pair in (left, right):
            x, y = pair if many else (pair[0][1], pair[1][1])
            ours = _Product(_function(dtype, many=many), torchs)(x, y)
            if not torch.allclose(ours, torchs(x, y), rtol=0, atol=1e-4):
                return False
    return True


def _is_slow_in_torch() -> bool:
    """Whether the processor is AMD's and has AVX-512, and torch multiplies by MKL."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    if not torch.backends.mkl.is_available():
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    with suppress(OSError):
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    return False
