"""Batches of several networks at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..training.data import SubsetRows
from ._losses import smoothed_targets

__all__ = ["Feed"]

# Rows of several steps are gathered at once, up to this size.
_CHUNK_BYTES = 2**21


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
        self._buffer = None  # reused, as allocating costs as much as copying
        self._join_inputs()
        rows = [run.batches.rows for run in runs]
        targets = [
            smoothed_targets(run.net, part.targets) for run, part in zip(runs, rows, strict=True)
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
        self.weight = None
        if weights[0] is not None:
            self.weight = torch.cat([weights[i] for i in kept]).to(dtype)
        self._plan()

    def _join_inputs(self):
        """Find the distinct input arrays of the networks, and the rows of each network."""
        sources, self.source_of, self.maps = {}, [], []
        for run in self.runs:
            rows = run.batches.rows
            X, of_rows = rows.source, None
            if isinstance(X, SubsetRows):
                X, of_rows = X.tensor, X.rows
            key = (X.data_ptr(), X.shape, X.stride()) if isinstance(X, torch.Tensor) else id(X)
            sources.setdefault(key, X)
            self.source_of.append(list(sources).index(key))
            self.maps.append(of_rows)
        self.sources = list(sources.values())
        self._is_in_memory = all(
            isinstance(source, torch.Tensor) and source.device.type == "cpu"
            for source in self.sources
        )
        self.row_bytes = max(1, math.prod(self.sources[0].shape[1:]) * self.dtype.itemsize)

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
        longest = max(len(run.batches.rows) for run in self.runs)
        # int32, as the orders of many networks may need as much memory as the rows.
        orders = torch.zeros(len(self.runs), longest, dtype=torch.int32)
        for row, run in enumerate(self.runs):
            order, index = run.batches.order(), run.batches.rows.index
            orders[row, : len(order)] = order if index is None else index[order]
        done = 0
        while done < len(self.steps):
            step = self.steps[done]
            together = self._together(done)
            yield from self._gathered(step, together, orders)
            done += together

    def _together(self, first):
        """Return how many steps from `first` on are gathered at once."""
        step = self.steps[first]
        if step.lengths is not None:
            return 1
        per_step = (step.stop - step.start) * step.size * self.row_bytes
        most = max(1, _CHUNK_BYTES // per_step)
        n = 1
        for other in self.steps[first + 1 : first + most]:
            alike = (other.start, other.stop, other.size) == (step.start, step.stop, step.size)
            follows = other.first_row == step.first_row + n * step.size
            if not alike or not follows or other.lengths is not None:
                break
            n += 1
        return n

    def _gathered(self, step, n_steps, orders):
        n_nets = step.stop - step.start
        end = step.first_row + n_steps * step.size
        order = orders[step.start : step.stop, step.first_row : end].long()
        # Indices of rows of the inputs, and of the joined targets.
        of_inputs = [_mapped(self.maps[step.start + i], one) for i, one in enumerate(order)]
        firsts = torch.tensor(self.first_targets[step.start : step.stop])
        chosen = torch.stack([torch.stack(of_inputs), order + firsts.unsqueeze(1)])
        weight = torch.full((n_nets, step.size), 1 / step.size, dtype=self.dtype)
        if step.lengths is not None:
            lengths = torch.tensor(step.lengths).unsqueeze(1)
            is_real = torch.arange(step.size) < lengths
            # Fill up with the first row, which introduces no new values.
            chosen = torch.where(is_real, chosen, chosen[..., :1])
            weight = is_real.to(self.dtype) / lengths
        # (2, n_nets, n_steps * size) -> (2, n_steps, n_nets, size)
        chosen = chosen.unflatten(2, (n_steps, step.size)).transpose(1, 2).contiguous()
        weight = weight.to(self.device)
        of_targets = chosen[1].flatten().to(self.device)
        ys = self.targets.index_select(0, of_targets).unflatten(0, chosen.shape[1:]).unbind(0)
        ws = [weight] * n_steps
        if self.weight is not None:
            weights = self.weight.index_select(0, of_targets)
            ws = (weights.view(n_steps, n_nets, step.size) * weight).unbind(0)
        X = self._inputs(chosen[0], self.source_of[step.start : step.stop])
        for x, y, w in zip(X, ys, ws, strict=True):
            yield step, x, y, w

    def _inputs(self, index, source_of):
        """Yield inputs of shape (n_networks, size, ...) for each step, valid until the next one.

        `index` has the shape (n_steps, n_networks, size).
        """
        n_steps, n_networks, size = index.shape
        apart = len(set(source_of)) > 1
        # Rows in memory are gathered just before their use, so that they are in the cache.
        n_at_once = 1 if self._is_in_memory else n_steps
        n_rows = n_at_once * n_networks * size
        if self._buffer is None or len(self._buffer) < n_rows:
            row, dtype = self.sources[0].shape[1:], self.runs[0].batches.rows.dtype[None]
            self._buffer = torch.empty(n_rows, *row, dtype=dtype, device=self.device)
        X = self._buffer[:n_rows]
        # One network after the other, unless all read the same array.
        if apart:
            parts = index.unflatten(0, (-1, n_at_once)).transpose(1, 2).flatten(2)
            views = X.unflatten(0, (n_networks, n_at_once, size)).unbind(1)
        else:
            parts = index.view(-1, 1, n_rows)
            views = X.unflatten(0, (n_at_once, n_networks, size)).unbind(0)
        outs, sources = X.tensor_split(parts.shape[1]), [self.sources[i] for i in source_of]
        for of_steps in parts.to(getattr(sources[0], "device", "cpu")):
            for out, of_part, source in zip(outs, of_steps, sources, strict=False):
                _read(source, of_part, out)
            yield from views


def _read(source, index, out):
    """Write rows of a source into a tensor."""
    if isinstance(source, torch.Tensor):
        index = index.to(source.device)
        if (source.device, source.dtype) == (out.device, out.dtype):
            torch.index_select(source, 0, index, out=out)
            return
    out.copy_(source.index_select(0, index))


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


def _mapped(of_rows, index):
    return index if of_rows is None else of_rows[index]
