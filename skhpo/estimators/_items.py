"""How a net reads the items of a dataset: in this thread, or by the processes of a loader."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, default_collate

from ..training.batches import read_loader, start_method
from ..training.items import fetch, pad_items
from ..training.randomness import OwnGenerators, Stream, noticing_draws, stream_seed
from .settings import changed_settings

__all__ = ["ORDERS", "ItemReader", "collate_of"]

# Arguments of a loader that say which items a batch has. The order is drawn from the stream
# "shuffle" alone, so that the same rows have the same batches in whatever form they are given.
_ORDER = {"batch_size", "shuffle", "drop_last"}
# With one of these a loader is not told to shuffle.
ORDERS = {"sampler", "batch_sampler", "shuffle"}
# Those that do nothing without processes.
_OF_PROCESSES = {"persistent_workers", "prefetch_factor", "multiprocessing_context", "timeout"}


def collate_of(net: Any, settings: Mapping[str, Any]) -> Callable[[list[Any]], Any]:
    """Return what makes a batch of items, given the settings of an iterator."""
    if net.collate is None:
        return settings.get("collate_fn") or default_collate
    return pad_items if net.collate == "pad" else net.collate


class ItemReader:
    """Reads batches of items as a net gets them.

    A dataset that draws random numbers (augmentation) does so from the stream "forward" in
    training, from a constant one otherwise; in processes of a loader with seeds of the epoch. If
    the first batch draws nothing, the first one that does is read twice.

    Parameters
    ----------
    net : TorchClassifier or TorchRegressor
    prepare : callable
        Makes inputs and encoded targets of a loader's batch; without `targets` inputs and None.
    training : bool
        Whether `iterator_train` is read by, or `iterator_valid`.
    """

    def __init__(self, net: Any, prepare: Callable[..., Any], *, training: bool) -> None:
        self.net, self.prepare, self.training = net, prepare, training
        settings = changed_settings(net, "iterator_train" if training else "iterator_valid")
        self.collate = collate_of(net, settings)
        of_loader = {k: v for k, v in settings.items() if k not in {*_ORDER, "collate_fn"}}
        if not of_loader.get("num_workers"):
            of_loader = {k: v for k, v in of_loader.items() if k not in _OF_PROCESSES and v}
        self.settings = of_loader
        self.stream = net._state.streams["forward"] if training else Stream(0, "loader")
        self._loader: Any = None
        # Whether draws of the dataset are redirected. Whether there are any is not known on a GPU,
        # nor in a thread, beside others that draw.
        in_thread = threading.current_thread() is not threading.main_thread()
        self._draws = net.device_.type != "cpu" or in_thread
        self._has_read = False

    @property
    def needs_loader(self) -> bool:
        """Whether a `DataLoader` has to make the batches."""
        return bool(self.settings)

    def formats(self, dataset: Any, number: int) -> tuple[Any, Any] | None:
        """Return shape and type of a row of the inputs and of the targets, as an item has them.

        None if they depend on how items are collated, or inputs or targets are several.
        """
        if self.collate is not default_collate:
            return None
        X, y = self.probe(dataset, [number])
        if not (isinstance(X, torch.Tensor) and isinstance(y, torch.Tensor)):
            return None
        return (tuple(X.shape[1:]), X.dtype), (tuple(y.shape[1:]), y.dtype)

    def probe(self, dataset: Any, numbers: list[int]) -> Any:
        """Return a batch (X, y), with draws from a stream of its own."""
        with torch.inference_mode(False), OwnGenerators(Stream(0, "probe")):
            return self.prepare(fetch(dataset, numbers, self.collate))

    def batches(
        self, dataset: Any, numbers: Sequence[list[int]], *, targets: bool = True
    ) -> Iterator[Any]:
        """Yield a pair (X, y) for each list of numbers of items; `y` is None without `targets`."""
        read = self._by_loader if self.needs_loader else self._read
        raw = iter(read(dataset, numbers))
        for _ in numbers:
            # Items may stay in the dataset, and be used by autograd later.
            with torch.inference_mode(False):
                made = self.prepare(next(raw), targets=targets)
            yield made

    def _read(self, dataset: Any, numbers: Iterable[list[int]]) -> Iterator[Any]:
        drawing = _Noting(self.stream)
        for some in numbers:
            if not self._draws and self._has_read:
                # Redirecting draws costs a third of the time of reading small items.
                with noticing_draws() as drew:
                    batch = fetch(dataset, some, self.collate)
                    self._draws = drew()
                if not self._draws:
                    yield batch
                    continue
            with drawing:
                batch = fetch(dataset, some, self.collate)
            self._draws, self._has_read = self._draws or drawing.drew, True
            yield batch

    def _by_loader(self, dataset: Any, numbers: Sequence[list[int]]) -> Iterator[Any]:
        """Read by a loader that lives as long as this reader, so that its processes may persist."""
        if self._loader is None or self._loader.dataset is not dataset:
            settings = dict(self.settings)
            if settings.get("num_workers"):
                settings.setdefault("multiprocessing_context", start_method())
            # Without a generator a DataLoader draws from torch's global one.
            generator = torch.Generator() if self.training else self.stream.generator()
            kwargs = {"collate_fn": self.collate, "generator": generator, **settings}
            self._loader = DataLoader(dataset, batch_sampler=_Chosen(), **kwargs)
        if self.training:
            of_epoch = "loader", str(self.net._state.counters.n_epochs)
            self._loader.generator.manual_seed(stream_seed(self.net._seed_of("shuffle"), *of_epoch))
        self._loader.batch_sampler.numbers = numbers
        return read_loader(self._loader, self.stream)


class _Noting(OwnGenerators):
    """Notes whether anything was drawn."""

    drew = False

    def generator(self, device: torch.device) -> torch.Generator:
        self.drew = True
        return super().generator(device)


class _Chosen:
    """A batch sampler of numbers that are given."""

    numbers: Sequence[list[int]] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.numbers)
