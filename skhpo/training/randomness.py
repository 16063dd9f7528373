"""Random numbers that belong to one fit.

A seed and a name give a stream. Torch draws from default generators that all threads share, so
while a network is built or trained a thread-local mode redirects draws to the streams.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import numbers
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .structure import is_of_torch, is_plain

__all__ = [
    "DRAWING",
    "LentGenerators",
    "Masks",
    "OwnGenerators",
    "Stream",
    "draw_seed",
    "fill_mask",
    "layer_may_draw",
    "may_draw",
    "noticing_draws",
    "noticing_seeds",
    "stream_seed",
]

# Functions that take `generator=`.
_WITH_GENERATOR = frozenset(
    [
        *(getattr(torch, f) for f in ("rand", "randn", "randint", "randperm", "normal")),
        *(getattr(torch, f) for f in ("bernoulli", "binomial", "multinomial", "poisson")),
        *(getattr(torch, f) for f in ("_standard_gamma", "_sample_dirichlet")),
        *(getattr(torch.Tensor, f) for f in ("bernoulli", "multinomial", "bernoulli_", "cauchy_")),
        *(getattr(torch.Tensor, f) for f in ("exponential_", "geometric_", "log_normal_")),
        *(getattr(torch.Tensor, f) for f in ("normal_", "random_", "uniform_")),
        *(getattr(nn.init, f) for f in ("uniform_", "normal_", "trunc_normal_")),
        *(getattr(nn.init, f) for f in ("xavier_uniform_", "xavier_normal_")),
        *(getattr(nn.init, f) for f in ("kaiming_uniform_", "kaiming_normal_")),
        *(getattr(nn.init, f) for f in ("orthogonal_", "sparse_")),
    ]
)

# Functions that can only draw from a default generator.
_WITHOUT_GENERATOR = frozenset(
    [
        *(getattr(torch, f) for f in ("rand_like", "randn_like", "randint_like")),
        *(getattr(torch, f) for f in ("dropout", "dropout_", "native_dropout", "rrelu", "rrelu_")),
        *(getattr(torch, f) for f in ("alpha_dropout", "alpha_dropout_", "feature_dropout")),
        *(getattr(torch, f) for f in ("feature_dropout_", "feature_alpha_dropout")),
        *(getattr(torch, f) for f in ("feature_alpha_dropout_", "lstm", "gru", "rnn_tanh")),
        torch.rnn_relu,
        torch.miopen_rnn,
        *(getattr(F, f) for f in ("dropout", "dropout1d", "dropout2d", "dropout3d")),
        *(getattr(F, f) for f in ("alpha_dropout", "feature_alpha_dropout", "rrelu")),
        *(getattr(F, f) for f in ("gumbel_softmax", "multi_head_attention_forward")),
        *(getattr(F, f) for f in ("fractional_max_pool2d", "fractional_max_pool3d")),
        *(getattr(F, f"fractional_max_pool{n}d_with_indices") for n in (2, 3)),
        F.scaled_dot_product_attention,
    ]
)

# All functions that draw random numbers.
DRAWING = _WITH_GENERATOR | _WITHOUT_GENERATOR

# Dropout, and how many dimensions of a batch share a draw.
_N_SHARED = {F.dropout: 0, F.dropout1d: 1, F.dropout2d: 2, F.dropout3d: 3}

# A value is kept if 16 random bits are less than a share of 2**16, which draws an eighth of the
# bits of `torch.Tensor.bernoulli_`. Other rates would change by more than a thousandth.
_RATES_OF_BITS = 0.01, 0.9
_N_BITS = 16
_WORD = -(2**63)  # the least of the numbers of 64 bits, of which all are drawn
_AT_ONCE = 2**16  # values of a mask, for which the processor's cache has room
_MOST_RATES = 64
_NUMBERS = torch.float32, torch.float64

_DEFAULT_GENERATORS_LENT = threading.RLock()


def draw_seed(random_state: Any) -> int:
    """Return an integer seed, without using a global generator.

    An integer is the seed; None draws one from the operating system; a generator of NumPy draws
    one. Anything else raises ValueError.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> 1)
    if isinstance(random_state, numbers.Integral) and int(random_state) >= 0:
        return int(random_state)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(np.iinfo(np.int64).max))
    raise ValueError(
        f"random_state must be None, an integer >= 0 or a NumPy generator, but got {random_state!r}"
    )


def stream_seed(seed: int, *names: str) -> int:
    """Return the 63-bit seed of the stream with these names."""
    text = "/".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


class Stream:
    """A named stream ("shuffle", "forward", ...): one generator per kind of device, made on demand.

    It goes on where it is on another device of the same kind, as a fit does that a search moves.
    """

    def __init__(self, seed: int, name: str) -> None:
        self.seed = seed
        self.name = name
        self._generators: dict[str, torch.Generator] = {}

    def generator(self, device: str | torch.device = "cpu") -> torch.Generator:
        """Return the generator of a device."""
        device = torch.device(device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        own = self._generators.get(device.type)
        if own is None or device.index not in (None, own.device.index):
            made = torch.Generator(device)
            if own is None:
                made.manual_seed(stream_seed(self.seed, self.name))
            else:
                made.set_state(own.get_state())
            self._generators[device.type] = own = made
        return own

    def state(self) -> dict[str, torch.Tensor]:
        """Return the generators' states: a dict from kind of device to tensor."""
        return {key: generator.get_state() for key, generator in self._generators.items()}

    def set_state(self, state: dict[str, torch.Tensor]) -> Stream:
        """Restore the states of a stream; those of devices that this machine lacks are ignored."""
        for key, value in state.items():
            kind = key.partition(":")[0]
            if _exists(torch.device(kind)):
                self.generator(kind).set_state(value.cpu())
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_stream, (self.seed, self.name, self.state())


def _restore_stream(seed: int, name: str, state: dict[str, torch.Tensor]) -> Stream:
    return Stream(seed, name).set_state(state)


def _exists(device: torch.device) -> bool:
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    return device.type == "cpu" or torch.get_device_module(device).is_available()


class OwnGenerators(TorchFunctionMode):
    """Redirects draws of this thread from default generators to a stream within this context.

    For functions that accept no generator (recurrent layers with dropout, attention, ...) the
    default generator gets the state of the stream during the call, under a lock: such functions
    of several fits wait for each other. Draws by NumPy or Python's `random` are not redirected.
    """

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _WITH_GENERATOR:
            if kwargs.get("generator") is None:
                generator = self.generator(_device_of(args, kwargs))
                return func(*args, **{**kwargs, "generator": generator})
        elif func in _WITHOUT_GENERATOR:
            device = _device_of(args, kwargs)
            if func in _N_SHARED and _can_mask(func, args[0] if args else kwargs["input"]):
                return _dropout(self.generator(device), _N_SHARED[func], *args, **kwargs)
            with LentGenerators(self, device):
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def generator(self, device: torch.device) -> torch.Generator:
        """Return the generator that the next call draws from."""
        return self.stream.generator(device)


def _can_mask(func: Any, input: torch.Tensor) -> bool:
    """Whether `_dropout` computes a dropout of an input; torch's does it, or refuses, otherwise."""
    n_shared = _N_SHARED[func]
    return (
        input.device.type == "cpu"
        and is_plain(input)
        and input.is_floating_point()
        and (not n_shared or input.ndim == n_shared + 2)
        # NumPy cannot fill tensors that torch.func makes.
        and not torch._C._are_functorch_transforms_active()
    )


def _dropout(
    generator: torch.Generator,
    n_shared: int,
    input: torch.Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> torch.Tensor:
    """Compute dropout on a CPU without the lock, by the masks of all other ways to train.

    The last `n_shared` dimensions, those of a channel, share a draw.
    """
    if not training or not 0 < p < 1:
        return F.dropout(input, p, training, inplace)
    shape = (*input.shape[: input.ndim - n_shared], *[1] * n_shared)
    mask = torch.empty(shape, dtype=input.dtype, device="cpu")
    fill_mask(mask, float(p), generator)
    return input.mul_(mask) if inplace else input * mask


@contextlib.contextmanager
def noticing_draws() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether this thread drew within this context.

    It tells so of torch's default generator of the CPU, which it leaves as it was. Other fits draw
    from generators of their own, or wait.
    """
    with _DEFAULT_GENERATORS_LENT:
        before = torch.default_generator.get_state()

        def drew() -> bool:
            if torch.equal(torch.default_generator.get_state(), before):
                return False
            torch.default_generator.set_state(before)
            return True

        try:
            yield drew
        finally:
            drew()  # an error may have come first


@contextlib.contextmanager
def noticing_seeds() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether torch's default generator was seeded in this context.

    The generator is left as it was. Draws, also those of other threads, are no seeds. A seed that
    it has already cannot be told from none.
    """
    with _DEFAULT_GENERATORS_LENT:
        seed, state = torch.initial_seed(), torch.default_generator.get_state()

        def seeded() -> bool:
            if torch.initial_seed() == seed:
                return False
            torch.default_generator.set_state(state)
            return True

        try:
            yield seeded
        finally:
            seeded()


class LentGenerators:
    """Gives the default generators of `devices` the states of a stream, for all threads.

    For code that `OwnGenerators` cannot redirect, such as a compiled module. Fits that use it wait
    for each other; another thread that draws from a default generator meanwhile disturbs the
    stream.
    """

    def __init__(self, stream: Any, *devices: torch.device) -> None:
        self.stream = stream
        self.devices = devices

    def __enter__(self) -> None:
        _DEFAULT_GENERATORS_LENT.acquire()
        self._lent = []
        for device in self.devices:
            own, default = self.stream.generator(device), _default_generator(device)
            self._lent.append((own, default, default.get_state()))
            default.set_state(own.get_state())

    def __exit__(self, *error: object) -> None:
        for own, default, state_before in self._lent:
            own.set_state(default.get_state())
            default.set_state(state_before)
        _DEFAULT_GENERATORS_LENT.release()


def _default_generator(device: torch.device) -> torch.Generator:
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.default_generator


def _device_of(args: Any, kwargs: Any) -> torch.device:
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            return value.device
    device = kwargs.get("device")
    return torch.get_default_device() if device is None else torch.device(device)


def may_draw(module: nn.Module) -> bool:
    """Whether a forward pass in training mode may draw random numbers.

    False only if every part is a layer of torch or of this package that never draws.
    """
    return any(layer_may_draw(layer) for layer in module.modules())


def layer_may_draw(layer: nn.Module) -> bool:
    """Whether a layer, without its children, may draw."""
    if not is_of_torch(layer):
        return True
    if isinstance(layer, nn.RReLU | nn.FractionalMaxPool2d | nn.FractionalMaxPool3d):
        return True
    dropout = getattr(layer, "dropout", getattr(layer, "p", 0))
    is_rate = isinstance(dropout, float | int) and not isinstance(layer, nn.PairwiseDistance)
    return is_rate and dropout > 0


def fill_mask(mask: torch.Tensor, rate: float, generator: torch.Generator) -> None:
    """Fill a mask; a value is zero with probability `rate`, between 0 and 1, or ``1/(1 - rate)``.

    Draws are in the order of the dimensions, whatever the layout in memory.
    """
    if not mask.is_contiguous() or mask.dtype not in _NUMBERS:
        whole = _whole(mask)
        fill_mask(whole, rate, generator)
        mask.copy_(whole)
    elif not _of_bits(rate):
        mask.bernoulli_(1 - rate, generator=generator).div_(1 - rate)
    else:
        words = torch.empty(_n_words(mask.numel()), dtype=torch.int64, device="cpu")
        words.random_(_WORD, None, generator=generator)
        numbers = mask.view(-1).numpy()
        is_kept = _as_bits(words)[: len(numbers)] < _bound(rate)
        np.multiply(is_kept, numbers.dtype.type(1 / (1 - rate)), out=numbers)


class Masks:
    """Draws dropout masks of programs.

    `generator` is a function that returns the generator of a single network.
    """

    def __init__(self, generator: Callable[[], torch.Generator] | None = None) -> None:
        self._generator = generator
        # By rates, of which there are many where they are tuned: only the last few.
        self._bounds: dict[Any, tuple[Any, Any, bool]] = {}

    def __call__(self, mask: torch.Tensor, rate: float) -> None:
        """Fill a mask with draws from the generator."""
        assert self._generator is not None
        fill_mask(mask, rate, self._generator())

    def fill_each(
        self,
        mask: torch.Tensor,
        rates: Sequence[float],
        lengths: Sequence[int],
        generators: Sequence[torch.Generator],
    ) -> None:
        """Fill a mask (n_networks, n, ...) of networks that have rates and generators of their own.

        Only the first rows of each are drawn; the others are any finite numbers. Networks with a
        rate of 0 or 1 draw nothing.
        """
        if not mask.is_contiguous() or mask.dtype not in _NUMBERS:
            whole = _whole(mask)
            self.fill_each(whole, rates, lengths, generators)
            mask.copy_(whole)
            return
        n_networks, n = mask.shape[:2]
        flat = mask.view(n_networks, -1)
        size = flat.shape[1]
        bounds, scales, all_of_bits = self._bounds_of(tuple(rates), flat.numpy().dtype.type)
        # Some networks at a time.
        n_rows = min(n_networks, max(1, _AT_ONCE // size))
        words = torch.zeros(n_rows, _n_words(size), dtype=torch.int64, device="cpu")
        bits, rows = _as_bits(words)[:, :size], words.unbind(0)
        for start in range(0, n_networks, len(rows)):
            some = slice(start, start + len(rows))
            others = []
            for i, (row, length, generator) in enumerate(
                zip(rows, lengths[some], generators[some], strict=False)
            ):
                if length < n:
                    row = row[: _n_words(size // n * length)]
                if all_of_bits or _of_bits(rates[start + i]):
                    row.random_(_WORD, None, generator=generator)
                elif 0 < rates[start + i] < 1:
                    others.append(start + i)
                else:
                    row.zero_()  # which is less than the bound of a rate of 0 only
            part = flat[some].numpy()
            np.multiply(bits[: len(part)] < bounds[some], scales[some], out=part)
            for i in others:
                fill_mask(flat[i, : size // n * lengths[i]], rates[i], generators[i])

    def _bounds_of(self, rates: tuple[float, ...], real: Any) -> tuple[Any, Any, bool]:
        """Return the bounds and factors of networks, of shape (n_networks, 1).

        And whether 16 bits of each value are enough for all.
        """
        key = rates, real
        if key not in self._bounds:
            if len(self._bounds) >= _MOST_RATES:
                del self._bounds[next(iter(self._bounds))]
            bounds = np.array([_bound(rate) for rate in rates], np.uint16)
            scales = np.array([1 / (1 - rate) if rate < 1 else 0 for rate in rates], real)
            self._bounds[key] = bounds[:, None], scales[:, None], all(map(_of_bits, rates))
        return self._bounds[key]


def _whole(mask: torch.Tensor) -> torch.Tensor:
    """Return a contiguous tensor like a mask, of numbers that NumPy has."""
    dtype = mask.dtype if mask.dtype in _NUMBERS else torch.float32
    return torch.empty(mask.shape, dtype=dtype, device="cpu")


def _of_bits(rate: float) -> bool:
    return _RATES_OF_BITS[0] <= rate <= _RATES_OF_BITS[1]


def _bound(rate: float) -> Any:
    return np.uint16(min(round((1 - rate) * 2**_N_BITS), 2**_N_BITS - 1))


def _n_words(n: int) -> int:
    """Return how many numbers of 64 bits have the bits of n values."""
    return math.ceil(n * _N_BITS / 64)


def _as_bits(words: torch.Tensor) -> Any:
    return words.numpy().view(np.uint16)
