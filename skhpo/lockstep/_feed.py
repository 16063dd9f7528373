"""Batches of several networks at once."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import nn

from ..training.data import CHUNK_BYTES, SubsetRows

__all__ = ["Feed"]

# Several arrays are copied to one, from which a step gathers its rows by one call instead of one
# for each network, up to this size; the time of a call matters less for larger rows, and more on a
# GPU (11 us on an H200).
_JOINED_BYTES = {"cpu": 2**25, "cuda": 2**28}
_BINARY = (nn.BCELoss, nn.BCEWithLogitsLoss)


@dataclass
class _Step:
    """The range of networks with a batch at a step: `lengths` rows, filled up to `size`."""

    start: int
    stop: int
    first_row: int
    size: int
    lengths: list | None = None


class Feed:
    """Gathers the batches of networks, each in its own random order.

    `runs` with more batches come first. With `fill_up` smaller batches may be filled up with
    further rows, of weight zero; weights have `dtype`.
    """

    def __init__(self, runs, fill_up, dtype):
        self.runs = runs
        self.fill_up = fill_up
        self.device = runs[0].net.device_
        self.dtype = dtype
        self.longest = max(len(run.batches.rows) for run in runs)
        self._buffer = None  # reused, as allocating costs as much as copying
        self._join_inputs()
        rows = [run.batches.rows for run in runs]
        targets = [
            _smoothed_targets(run.net, part.targets) for run, part in zip(runs, rows, strict=True)
        ]
        weights = [part.weight for part in rows]
        if any(weight is not None for weight in weights):
            ones = (torch.ones(len(part.targets), device=self.device) for part in rows)
            weights = [
                one if weight is None else weight for weight, one in zip(weights, ones, strict=True)
            ]
        # Networks on the same rows share targets and weights.
        self.first_targets, kept = _places(list(zip(targets, weights, strict=True)))
        self.targets = torch.cat([targets[i] for i in kept])
        self.target_bytes = self.targets[:1].nbytes
        self.weight = None
        if weights[0] is not None:
            self.weight = torch.cat([weights[i] for i in kept]).to(dtype)
        self._plan()

    def _join_inputs(self):
        """Find the distinct input arrays of the networks, and the rows of each network."""
        sources, self.source_of, self.maps = {}, [], []
        for run in self.runs:
            rows = run.batches.rows
            X, of_rows = _Items(rows) if rows.are_items else rows.source, None
            if isinstance(X, SubsetRows):
                X, of_rows = X.tensor, X.rows.cpu()
            if run.batches.change is not None:
                X = _Changed(X, run.batches)
            key = (X.data_ptr(), X.shape, X.stride()) if isinstance(X, torch.Tensor) else id(X)
            sources.setdefault(key, X)
            self.source_of.append(list(sources).index(key))
            self.maps.append(of_rows)
        self.sources = list(sources.values())
        self._is_in_memory = all(
            isinstance(source, torch.Tensor) and source.device.type == "cpu"
            for source in self.sources
        )
        self.first_inputs = [0] * len(self.runs)
        are_tensors = all(isinstance(source, torch.Tensor) for source in self.sources)
        if len(self.sources) > 1 and are_tensors:
            self._copy_to_one()
        # What is drawn while items are read and what a step draws come from one stream.
        self._step_by_step = self._is_in_memory or any(
            isinstance(source, _Items | _Changed) for source in self.sources
        )
        self.row_bytes = max(1, math.prod(self.sources[0].shape[1:]) * self.dtype.itemsize)

    def _copy_to_one(self):
        """Join small arrays of the same kind."""
        kinds = {(source.shape[1:], source.dtype, source.device) for source in self.sources}
        most = _JOINED_BYTES.get(self.sources[0].device.type, 0)
        if len(kinds) == 1 and sum(source.nbytes for source in self.sources) <= most:
            firsts = [0, *itertools.accumulate(map(len, self.sources))]
            self.first_inputs = [firsts[i] for i in self.source_of]
            self.sources, self.source_of = [torch.cat(self.sources)], [0] * len(self.runs)

    def _plan(self):
        sizes = [run.batches.sizes() for run in self.runs]
        batch_size = self.runs[0].batches.batch_size
        self.n_batches = [len(of_net) for of_net in sizes]
        self.sizes = sizes
        self.steps = []
        for step in range(max(self.n_batches)):
            lengths = [of_net[step] for of_net in sizes if step < len(of_net)]
            first = step * batch_size
            start = 0
            while start < len(lengths):
                stop = len(lengths)
                if not self.fill_up:
                    same = (i for i in range(start, stop) if lengths[i] != lengths[start])
                    stop = next(same, stop)
                part = lengths[start:stop]
                uneven = None if len(set(part)) == 1 else part
                self.steps.append(_Step(start, stop, first, max(part), uneven))
                start = stop

    def epoch(self):
        """Draw the orders of an epoch; yield ``(step, X, y, weight)``.

        `X` and `y` have the shape (n_nets, n, ...), and `weight` (n_nets, n): the weighted sum of
        the losses of rows is the loss of the batch.
        """
        orders = self._draw_orders()
        done = 0
        while done < len(self.steps):
            together = self._together(done)
            yield from self._gathered(self.steps[done : done + together], *orders)
            done += together

    def _draw_orders(self):
        """Return the rows of an epoch in the inputs and in the joined targets of the networks."""
        # int32, as the orders of many networks may need as much memory as the rows.
        dtype = torch.int32 if len(self.targets) < 2**31 else torch.int64
        of_targets = torch.zeros(len(self.runs), self.longest, dtype=dtype)
        is_mapped = any(of_rows is not None for of_rows in self.maps)
        is_same = not is_mapped and self.first_inputs == self.first_targets
        of_inputs = of_targets if is_same else torch.zeros_like(of_targets)
        for row, (run, of_rows) in enumerate(zip(self.runs, self.maps, strict=True)):
            order, index = run.batches.order(), run.batches.rows.index
            order = order if index is None else index[order]
            of_targets[row, : len(order)] = order
            if not is_same:
                of_inputs[row, : len(order)] = order if of_rows is None else of_rows[order]
        of_targets += of_targets.new_tensor(self.first_targets).unsqueeze(1)
        if not is_same:
            of_inputs += of_inputs.new_tensor(self.first_inputs).unsqueeze(1)
        return of_inputs, of_targets

    def _together(self, first):
        """Return how many steps from `first` on are gathered at once."""
        step = self.steps[first]
        if step.lengths is not None:
            return 1
        # Of rows in memory only the positions, 8 bytes for inputs and for targets, and targets.
        row_bytes = 16 + self.target_bytes + (0 if self._is_in_memory else self.row_bytes)
        per_step = (step.stop - step.start) * step.size * row_bytes
        most = max(1, CHUNK_BYTES.get(self.device.type, CHUNK_BYTES["cpu"]) // per_step)
        n = 1
        for other in self.steps[first + 1 : first + most]:
            alike = (other.start, other.stop, other.size) == (step.start, step.stop, step.size)
            follows = other.first_row == step.first_row + n * step.size
            if not alike or not follows or other.lengths is not None:
                break
            n += 1
        return n

    def _gathered(self, steps, of_inputs, of_targets):
        step, n_steps = steps[0], len(steps)  # all of the same form
        part = slice(step.start, step.stop), slice(step.first_row, None)
        is_same = of_inputs is of_targets
        of_inputs = _by_step(of_inputs[part], n_steps, step)
        of_targets = of_inputs if is_same else _by_step(of_targets[part], n_steps, step)
        of_targets = of_targets.to(self.device)
        ys = self.targets.index_select(0, of_targets.flatten()).unflatten(0, of_targets.shape)
        weight = self._share(step)
        ws = [weight] * n_steps
        if self.weight is not None:
            weights = self.weight.index_select(0, of_targets.flatten())
            ws = (weights.view(of_targets.shape) * weight).unbind(0)
        X = self._inputs(of_inputs, self.source_of[step.start : step.stop], step.lengths)
        yield from zip(steps, X, ys.unbind(0), ws, strict=True)

    def _share(self, step):
        """Return the weight of each row in the loss of its batch."""
        if step.lengths is None:
            share = torch.tensor(1 / step.size, dtype=self.dtype, device=self.device)
            return share.expand(step.stop - step.start, step.size)  # one number, read by all
        lengths = torch.tensor(step.lengths).unsqueeze(1)
        return ((torch.arange(step.size) < lengths).to(self.dtype) / lengths).to(self.device)

    def _inputs(self, index, source_of, lengths):
        """Yield inputs of shape (n_networks, size, ...) for each step, valid until the next one.

        `index` has the shape (n_steps, n_networks, size); `lengths` are the rows of each network
        that are not filled up, None for all.
        """
        n_steps, n_networks, size = index.shape
        # Rows in memory are gathered just before their use, so that they are in the cache.
        n_at_once = 1 if self._step_by_step else n_steps
        n_rows = n_at_once * n_networks * size
        if self._buffer is None or len(self._buffer) < n_rows:
            row, dtype = self.sources[0].shape[1:], self.runs[0].batches.formats[0][1]
            with torch.inference_mode(False):  # for autograd, if a later epoch needs it
                self._buffer = torch.empty(n_rows, *row, dtype=dtype, device=self.device)
        X = self._buffer[:n_rows]
        first = self.sources[source_of[0]]
        index = index.to(getattr(first, "device", "cpu"))
        if len(set(source_of)) == 1:
            views = X.unflatten(0, (n_at_once, n_networks, size)).unbind(0)
            if _gathers_into(first, X):
                for of_steps in index.view(-1, n_rows).unbind(0):
                    torch.index_select(first, 0, of_steps, out=X)
                    yield from views
                return
            for of_steps in index.view(-1, n_rows).unbind(0):
                _read(first, of_steps, X, lengths[0] if lengths and n_networks == 1 else n_rows)
                yield from views
            return
        # One network after the other.
        parts = index.unflatten(0, (-1, n_at_once)).transpose(1, 2).flatten(2)
        views = X.unflatten(0, (n_networks, n_at_once, size)).unbind(1)
        outs, sources = X.tensor_split(n_networks), [self.sources[i] for i in source_of]
        lengths = lengths or [n_at_once * size] * n_networks
        for of_steps in parts:
            for out, of_part, source, n in zip(outs, of_steps, sources, lengths, strict=True):
                _read(source, of_part, out, n)
            yield from views


def _by_step(order, n_steps, step):
    """Return the positions of rows in an array of shape (n_steps, n_nets, size).

    `order`, of shape (n_nets, n), begins with the first row of the first step.
    """
    order = order[:, : n_steps * step.size].unflatten(1, (n_steps, step.size)).transpose(0, 1)
    order = order.to(torch.int64, memory_format=torch.contiguous_format)
    if step.lengths is None:
        return order
    # Fill up with the first row, which introduces no new values.
    is_real = torch.arange(step.size) < torch.tensor(step.lengths).unsqueeze(1)
    return torch.where(is_real, order, order[..., :1])


class _Items:
    """The inputs of items of a dataset, whose targets must be those that were known before."""

    def __init__(self, rows):
        self.rows = rows
        self.shape = (len(rows.dataset), *rows.formats[0][0])

    def read(self, index, out, n):
        """Write items into a tensor; ValueError if they are not what is known of them.

        Those after the first `n`, by which a batch is filled up, are not read, which would draw.
        """
        X, y = self.rows.read(index[:n].tolist())
        known = self.rows.targets.index_select(0, index[:n].to(self.rows.targets.device))
        if X.shape[1:] != out.shape[1:] or X.dtype != out.dtype or not torch.equal(y, known):
            raise ValueError("items of a Dataset have another shape, type or target than before")
        out[:n] = X
        out[n:] = X[:1]


class _Changed:
    """The inputs of one network after its transform, which changes a batch and may draw."""

    def __init__(self, source, batches):
        self.source = source
        self.change = batches.change
        self.format = batches.rows.formats[0]
        self.shape = (len(batches.rows), *batches.formats[0][0])

    def read(self, index, out, n):
        """Write the rows of a batch, of which the first `n` are not filled up, into a tensor."""
        row, dtype = self.format
        with torch.inference_mode(False):
            given = torch.empty(n, *row, dtype=dtype, device=out.device)
            _read(self.source, index[:n], given, n)
            X = self.change(given)
        if X.shape[1:] != out.shape[1:] or X.dtype != out.dtype:
            raise ValueError("a transform returned rows of another shape or type than before")
        out[:n] = X
        out[n:] = X[:1]


def _read(source, index, out, n):
    """Write rows of a source into a tensor, of which the first `n` are not filled up."""
    if isinstance(source, _Items | _Changed):
        source.read(index, out, n)
        return
    if isinstance(source, torch.Tensor):
        index = index.to(source.device)
    if _gathers_into(source, out):
        torch.index_select(source, 0, index, out=out)
    else:
        out.copy_(source.index_select(0, index))


def _gathers_into(source, out):
    """Whether rows of a source can be gathered right where they are needed."""
    return isinstance(source, torch.Tensor) and (source.device, source.dtype) == (
        out.device,
        out.dtype,
    )


def _places(pairs):
    """Remove duplicate pairs of targets and weights.

    Returns the first row of each pair in the joined tensors, and the indices of the joined pairs.
    """
    firsts, kept, total = [], [], 0
    for i, pair in enumerate(pairs):
        alike = next((k for k in kept if all(map(_equal, pairs[k], pair))), None)
        firsts.append(total if alike is None else firsts[alike])
        if alike is None:
            kept.append(i)
            total += len(pair[0])
    return firsts, kept


def _equal(a, b):
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def _smoothed_targets(net, y):
    """Return the targets that a network's criterion gets."""
    smoothing = getattr(net, "label_smoothing", 0)
    if smoothing and isinstance(net.criterion_, _BINARY):
        return y * (1 - smoothing) + smoothing / 2
    return y
