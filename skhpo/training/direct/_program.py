"""A network, its loss and its optimizer as a sequence of rules; on a GPU as CUDA graphs."""

from __future__ import annotations

import logging
import operator
import threading
import types
from collections.abc import Callable, Iterable
from typing import Any

import torch

from ..structure import is_plain
from ._equivalence import find_differences
from ._layers import (
    READ_IN_STEPS,
    has_global_hooks,
    has_hooks,
    is_traced,
    make_rule,
    refuse_hooks,
)
from ._losses import make_loss
from ._optimizers import make_stepper
from ._rules import Place, Unknown

__all__ = [
    "Captured",
    "Program",
    "Signature",
    "check_parts",
    "compile_program",
    "make_pass",
    "refuse_differences",
]

_DTYPES = {torch.float32, torch.float64}
_EMPTY = types.CellType()


class Program:
    """Trains a module in training mode without autograd.

    Between `begin` and `finish` there may be any number of steps. Weights may be changed in place
    between two steps, everything else about the module and the optimizer between `finish` and
    `begin` as long as `holds`. Raises `Unknown` if there is no rule.

    Parameters
    ----------
    module, criterion : torch.nn.Module
    optimizer : torch.optim.Optimizer
    inputs, targets : tuple of (torch.Size, torch.dtype)
        Of a row.
    sizes : iterable of int
        Batch sizes.
    draw_mask : callable or None
        See `Place`.
    max_grad_norm : float or None, default=None
        Largest norm of all gradients together.
    accumulate : int, default=1
        Batches per step of the optimizer; see `GradientSteps`.
    **loss_settings : dict
        See `Loss`.

    Attributes
    ----------
    n_waiting : int
        Batches whose gradients wait for a step of the optimizer.
    """

    n_waiting = 0
    _sums: Any = None

    def __init__(
        self,
        module: Any,
        criterion: Any,
        optimizer: Any,
        inputs: Any,
        targets: Any,
        sizes: Any,
        draw_mask: Any,
        max_grad_norm: float | None = None,
        accumulate: int = 1,
        **loss_settings: Any,
    ) -> None:
        parameters = check_parts(module, criterion, optimizer)
        (row, dtype), (target_row, _) = inputs, targets
        place = Place.of(module, row, draw_mask, is_integer=not dtype.is_floating_point)
        gradients = {name: g for name, (_, g) in place.parameters.items() if g is not None}
        if not gradients:
            raise Unknown("no parameter is trained")
        traced = is_traced(module)
        if traced:
            refuse_differences(module, place.at(shape=(min(*sizes, 8), *row)), dtype)
        self._parts = {}
        for size in set(sizes):
            place = place.at(shape=(size, *row))
            scale = parameters[0][1].new_tensor(1 / size)
            self._parts[size] = (
                make_pass(module, criterion, place, target_row, scale=scale, **loss_settings),
                scale,
            )
        # Parameters that no rule reads have no gradient, so that the optimizer skips them.
        self._optimizer = optimizer
        self._learning = {
            p: gradients[name] for name, p in parameters if name in place.read & set(gradients)
        }
        make_stepper(optimizer, self._learning)
        self._max_grad_norm = max_grad_norm
        self.accumulate = accumulate
        self._n_rows = 0
        self._signature = Signature((module, criterion), traced)

    def begin(self) -> None:
        """Start before the first step."""
        self._stepper = make_stepper(self._optimizer, self._learning)
        self._stepper.begin()
        self.n_waiting = self._n_rows = 0

    def step(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        weight: Any = None,
        add_gradients: Any = None,
    ) -> Any:
        """Train with a batch of n rows; return their losses, of shape (n,).

        The loss of the batch is their mean, weighted by `weight` of shape (n,) if it is given. With
        `accumulate` the optimizer steps after so many batches, and by `complete_step`.
        `add_gradients` gets the gradients, by parameter, and may change them in place.
        """
        compute_gradients, scale = self._parts[x.size(0)]
        losses = compute_gradients(x, y, None if weight is None else weight * scale)
        if add_gradients is not None:
            add_gradients(self._learning)
        if self.accumulate == 1:
            self._step()
            return losses
        self._wait(x.size(0))
        if self.n_waiting == self.accumulate:
            self.complete_step()
        return losses

    def _wait(self, n_rows: int) -> None:
        """Add the gradients of a batch to those that wait."""
        gradients = list(self._learning.values())
        if self.n_waiting:
            torch._foreach_add_(self._sums, gradients, alpha=n_rows)
        else:
            self._sums = torch._foreach_mul(gradients, n_rows)
        self.n_waiting += 1
        self._n_rows += n_rows

    def complete_step(self) -> None:
        """Step with the gradients that wait: their mean over all rows."""
        gradients = list(self._learning.values())
        torch._foreach_copy_(gradients, torch._foreach_mul(self._sums, 1 / self._n_rows))
        self.n_waiting, self._n_rows, self._sums = 0, 0, None
        self._step()

    def _step(self) -> None:
        if self._max_grad_norm is not None:
            _clip(list(self._learning.values()), self._max_grad_norm)
        self._stepper.step()

    def finish(self) -> None:
        """Finish after the last step."""
        self._stepper.finish()

    def holds(self) -> bool:
        """Whether the module is unchanged since the program was made."""
        return self._signature.holds()


def _clip(gradients: Any, max_norm: float) -> None:
    """Scale gradients as `torch.nn.utils.clip_grad_norm_` does."""
    norm = torch.stack(torch._foreach_norm(gradients)).norm()
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1))


def refuse_differences(module: Any, place: Place, dtype: Any) -> None:
    """Raise Unknown if rules and autograd give different results for a few rows."""
    device = next(module.parameters()).device
    # Integers are positions in tables; zero is always valid.
    x = torch.zeros(place.shape, dtype=dtype, device=device)
    if dtype.is_floating_point:
        x.copy_(torch.randn(place.shape, generator=torch.Generator().manual_seed(0)))
    try:
        differ = find_differences([module], place, x)
    except IndexError as error:
        if not dtype.is_floating_point:
            raise
        raise Unknown("random rows are no positions in a table of the module") from error
    if differ:
        raise Unknown(f"autograd finds something else for {', '.join(sorted(differ))}")


def make_pass(
    module: Any,
    criterion: Any,
    place: Place,
    target_row: Any,
    *,
    scale: Any = None,
    may_capture: bool = True,
    **loss_settings: Any,
) -> Any:
    """Return the function that computes all gradients of a batch.

    It maps inputs, targets and the scale of `Loss.forward` (None: `scale`) to the losses of the
    rows. `target_row` is the shape of the target of a row; with `may_capture` a GPU may replay a
    pass without random numbers. Raises `Unknown` if there is no rule.
    """
    rule = make_rule(module, place)
    target_shape = place.shape[0], *target_row
    loss = make_loss(criterion, rule.shape, target_shape, place.n_networks, **loss_settings)
    forward, backward = rule.forward, rule.backward
    forward_loss, backward_loss = loss.forward, loss.backward

    def compute_gradients(x: torch.Tensor, y: torch.Tensor, own_scale: Any) -> Any:
        if own_scale is None:
            own_scale = scale
        losses = forward_loss(forward(x), y, own_scale)
        backward(backward_loss())
        return losses

    if place.networks is not None and place.networks.precision:
        forward = lambda x: rule.forward(x).float()  # noqa: E731
    on_gpu = any(value.is_cuda for value, _ in place.parameters.values())
    return Captured(compute_gradients) if on_gpu and may_capture else compute_gradients


def check_parts(module: Any, criterion: Any, *optimizers: Any) -> Any:
    """Return names and parameters of a module that can be trained without autograd.

    Raises `Unknown` if there are hooks, a parameter is shared, or a tensor is not a plain one.
    """
    for part in (module, criterion):
        refuse_hooks(part)
        for name, buffer in part.named_buffers():
            if not is_plain(buffer):
                raise Unknown(f"the buffer {name!r} is no plain tensor")
    parameters = list(module.named_parameters(remove_duplicate=False))
    own = {id(p) for _, p in parameters}
    if len(own) < len(parameters):
        raise Unknown("layers share a parameter")
    dtypes = {p.dtype for _, p in parameters}
    if len(dtypes) > 1 or not dtypes <= _DTYPES:
        raise Unknown("parameters that are not all float32 or all float64")
    if any(type(p) is not torch.nn.Parameter or not p.is_contiguous() for _, p in parameters):
        raise Unknown("parameters that are not plain tensors")
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    if any(id(p) not in own for group in groups for p in group["params"]):
        raise Unknown("the optimizer has parameters that are not the module's")
    return parameters


def compile_program(*parts: Any, kind: Any = Program, **settings: Any) -> Any:
    """Return a program of class `kind`, or None, and the reason why there is none, or None."""
    try:
        return kind(*parts, **settings), None
    except Unknown as unknown:
        return None, str(unknown)


class Signature:
    """Tensors, settings and hooks of modules, which are kept alive for comparison.

    Of a share that rules read in each step, only whether it is 0, 1 or between counts.
    With `reads_classes` also the attributes of classes and the globals that a traced ``forward``
    may read. Raises `Unknown` if ``forward`` is no function.
    """

    def __init__(self, modules: Any, reads_classes: bool) -> None:
        self._modules, self._reads_classes = modules, reads_classes
        # A captured graph has the numbers of its capture.
        self._shares = {} if _is_on_gpu(modules) else READ_IN_STEPS
        self._noted = self._sign()

    def holds(self) -> bool:
        """Whether the modules are unchanged."""
        (kept, numbers), (kept_before, numbers_before) = self._sign(), self._noted
        return (
            numbers == numbers_before
            and len(kept) == len(kept_before)
            and all(map(operator.is_, kept, kept_before))
        )

    def _sign(self) -> Any:
        kept: list[Any] = [has_global_hooks()]
        numbers: list[Any] = []
        for layer in (layer for module in self._modules for layer in module.modules()):
            attributes = vars(layer)
            if type(layer) in self._shares:
                name = self._shares[type(layer)]
                attributes = {**attributes, name: (attributes[name] > 0) + (attributes[name] >= 1)}
            _collect(attributes.values(), kept)
            if self._reads_classes and not type(layer).__module__.startswith("torch."):
                _collect(_read_by(type(layer)), kept)
            kept.append(has_hooks(layer))
            for tensor in (*layer._parameters.values(), *layer._buffers.values()):
                if tensor is not None:
                    kept.append(tensor)
                    numbers += (tensor.data_ptr(), tensor.requires_grad)
        return kept, numbers


def _is_on_gpu(modules: Any) -> bool:
    return any(p.is_cuda for module in modules for p in module.parameters())


def _read_by(kind: Any) -> Any:
    """Return class attributes, globals and closures that ``forward`` may read."""
    if not isinstance(kind.forward, types.FunctionType):
        raise Unknown(f"forward of {kind.__name__} is no function")
    own = [vars(base) for base in kind.__mro__ if not base.__module__.startswith("torch.")]
    names, outer = kind.forward.__code__.co_names, kind.forward.__globals__
    cells = [cell.cell_contents for cell in kind.forward.__closure__ or () if cell != _EMPTY]
    return [*map(dict, own), *(outer.get(name) for name in names), *cells]


def _collect(values: Iterable[Any], found: list[Any]) -> None:
    """Add values to a list, the items of nested containers in their place."""
    for value in values:
        kind = type(value)
        if kind is dict:
            _collect(value.values(), found)
        elif kind is list or kind is tuple:
            _collect(value, found)
        else:
            found.append(value)


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
        side, current = _stream_of_captures(), torch.cuda.current_stream()
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


_streams = threading.local()


def _stream_of_captures() -> Any:
    """Return the stream of this thread and of the current device, always the same.

    For each stream that captures products cuBLAS keeps memory (32 MiB on Hopper), for ever.
    """
    streams = _streams.__dict__.setdefault("of_device", {})
    device = torch.cuda.current_device()
    if device not in streams:
        streams[device] = torch.cuda.Stream()
    return streams[device]


class Captured:
    """A function of tensors that is captured once, and replayed with other values.

    The tensors have the same shapes in each call, and the same ones are None; other memory that
    the function uses must not move. `capture` maps a function without arguments to its replay.
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

    def __call__(self, *tensors: torch.Tensor | None) -> torch.Tensor:
        """Return the function's result as a new tensor."""
        self._n_calls += 1
        if self._n_calls <= _WARM_UP or self._capture is None:
            return self._function(*tensors)
        if self._graph is None:
            self._inputs = [None if tensor is None else tensor.clone() for tensor in tensors]
            # Kernels run on the device of the tensors, which may not be the current one.
            held = next(tensor for tensor in self._inputs if tensor is not None)
            try:
                with torch.cuda.device_of(held):
                    self._graph = self._capture(lambda: self._function(*self._inputs))
            except RuntimeError as error:
                _log.debug("steps without autograd are not captured: %s", error)
                self._capture = None
                return self._function(*tensors)
        for own, tensor in zip(self._inputs, tensors, strict=True):
            if own is not None and tensor is not None:
                own.copy_(tensor)
        self._graph.replay()
        out: torch.Tensor = self._graph.out
        return out.clone()
