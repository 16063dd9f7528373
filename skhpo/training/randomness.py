"""Random numbers that belong to one fit.

A seed and a name give a stream. Torch draws from default generators that all threads share, so
while a network is built or trained a thread-local mode redirects draws to the streams.
"""

from __future__ import annotations

import contextlib
import hashlib
import numbers
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .structure import is_of_torch

__all__ = [
    "DRAWING",
    "LentGenerators",
    "OwnGenerators",
    "Stream",
    "draw_seed",
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
    """A named stream ("shuffle", "forward", ...): one generator per device, made on demand."""

    def __init__(self, seed: int, name: str) -> None:
        self.seed = seed
        self.name = name
        self._generators: dict[str, torch.Generator] = {}

    def generator(self, device: str | torch.device = "cpu") -> torch.Generator:
        """Return the generator of a device."""
        device = torch.device(device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        key = str(device)
        if key not in self._generators:
            seed = stream_seed(self.seed, self.name)
            self._generators[key] = torch.Generator(device).manual_seed(seed)
        return self._generators[key]

    def state(self) -> dict[str, torch.Tensor]:
        """Return the generators' states: a dict from device name to tensor."""
        return {key: generator.get_state() for key, generator in self._generators.items()}

    def set_state(self, state: dict[str, torch.Tensor]) -> Stream:
        """Restore the states of a stream; those of devices that this machine lacks are ignored."""
        for key, value in state.items():
            if _exists(torch.device(key)):
                self.generator(key).set_state(value.cpu())
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
            if func is F.dropout and device.type == "cpu":
                return _dropout(self.generator(device), *args, **kwargs)
            with LentGenerators(self, device):
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def generator(self, device: torch.device) -> torch.Generator:
        """Return the generator that the next call draws from."""
        return self.stream.generator(device)


def _dropout(
    generator: torch.Generator,
    input: torch.Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> torch.Tensor:
    """Compute `torch.nn.functional.dropout` on a CPU, bit for bit, without the lock."""
    if not training or not 0 < p < 1:
        return F.dropout(input, p, training, inplace)
    noise = torch.empty_like(input).bernoulli_(1 - p, generator=generator).div_(1 - p)
    return input.mul_(noise) if inplace else input * noise


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
