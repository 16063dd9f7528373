"""What a GPU gives: steps, groups of networks, low precision, whole searches, and the way of data.

Each part compares with a named peer in the same run. Contestants take turns, the device is waited
for before and after each, and a ratio is one of two times within a turn; medians with the range.

* ``steps``: a fit of `TorchClassifier`, with its steps captured in CUDA graphs, by the same rules
  without capture, and by autograd, against the loop that one writes in PyTorch, with Adam as it
  is, with fused Adam, and with the whole step captured by hand (fused Adam, capturable).
* ``lockstep``: seconds per network of groups of K networks, against the loop with fused Adam.
* ``amp``: fits with ``amp="auto"`` against ``amp=False``.
* ``search``: a grid of 24 candidates on 5 folds of the digits, and Hyperband, on the GPU and on the
  CPU of the same machine; skorch on the GPU by the first candidates of the grid, extrapolated.
* ``data``: rows on the GPU, part of an array (a fold of a search), and sent batch by batch.

    python benchmarks/gpu.py [part ...] [--only "64-64-10" ...] [--repeats 5] [--device cuda]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import time
import warnings
from functools import partial
from unittest import mock

import numpy as np
import torch
from lockstep_search import GRID, SPACE, digits, skorch_net, torch_net, whole_grid
from sklearn.model_selection import GridSearchCV
from torch import nn

from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier
from skhpo.estimators import MLP, ConvNet
from skhpo.lockstep import Member, train_together
from skhpo.rows import RowSubset
from skhpo.training import data as training_data
from skhpo.training.direct import _program
from skhpo.training.runners import DirectSteps

LEARNING_RATE = 1e-3
TWO = {"n_units": 128, "n_layers": 2}
# Name: module and its settings, shape of a row, rows, size of a batch, epochs.
STEPS = {
    "64-64-10, 64": (MLP, {"n_units": 64}, (64,), 1797, 64, 20),
    "128-128 with dropout and batch norm, 64": (
        *(MLP, {**TWO, "dropout": 0.2, "normalization": "batch"}),
        *((64,), 1797, 64, 20),
    ),
    "784-256-10, 64": (MLP, {"n_units": 256}, (784,), 6400, 64, 5),
    "784-2048-2048-10, 512": (MLP, {"n_units": 2048, "n_layers": 2}, (784,), 10240, 512, 10),
    "`ConvNet` on 28 x 28, 64": (ConvNet, {}, (28, 28), 6400, 64, 3),
    "`ConvNet` on 28 x 28, 512": (ConvNet, {}, (28, 28), 10240, 512, 5),
}
GROUPS = {
    "64-64-10": ({"n_units": 64}, 64, 1797, 5),
    "64-128-128-10": (TWO, 64, 1797, 5),
    "784-256-10": ({"n_units": 256}, 784, 1797, 5),
}
SIZES = [1, 4, 16, 64, 128, 256, 512]


def some_data(shape, n_rows):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(n_rows, *shape)).astype(np.float32)
    return X, generator.integers(10, size=n_rows)


def a_network(module, settings, shape):
    return module(shape[0] if module is MLP else shape, 10, **settings)


class GraphOfStep:
    """A whole step of PyTorch in a CUDA graph, as one captures it by hand."""

    def __init__(self, step, *tensors):
        self.tensors = [tensor.clone() for tensor in tensors]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step(*self.tensors)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            step(*self.tensors)

    def __call__(self, *tensors):
        for own, tensor in zip(self.tensors, tensors, strict=True):
            own.copy_(tensor)
        self.graph.replay()


def by_hand(device, case, *, fused=False, captured=False, amp=False):
    """The loop that one writes."""
    module, settings, shape, n_rows, batch_size, epochs = case
    torch.manual_seed(0)
    X, y = map(torch.from_numpy, some_data(shape, n_rows))
    X, y = X.to(device), y.to(device)
    net, criterion = a_network(module, settings, shape).to(device), nn.CrossEntropyLoss()
    more = {"fused": True} if fused else {}
    more |= {"capturable": True} if captured else {}
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, **more)
    casting = torch.autocast(device, torch.bfloat16) if amp else contextlib.nullcontext()
    net.train()

    def step(x, y):
        optimizer.zero_grad()
        with casting:
            loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()

    graph = None
    for _ in range(epochs):
        order = torch.randperm(n_rows, device=device)
        for start in range(0, n_rows, batch_size):
            batch = order[start : start + batch_size]
            if captured and len(batch) == batch_size:
                graph = graph or GraphOfStep(step, X[batch], y[batch])
                graph(X[batch], y[batch])
            else:
                step(X[batch], y[batch])


def with_skhpo(device, case, **params):
    module, settings, shape, n_rows, batch_size, epochs = case
    X, y = some_data(shape, n_rows)
    net = TorchClassifier(
        module,
        **{f"module__{name}": value for name, value in settings.items()},
        optimizer="adam",
        lr=LEARNING_RATE,
        batch_size=batch_size,
        max_epochs=epochs,
        random_state=0,
        device=device,
        **params,
    )
    return net.fit(X, y)


def _itself(function):
    return function


@contextlib.contextmanager
def not_captured():
    with mock.patch.object(_program, "Captured", _itself):
        yield


@contextlib.contextmanager
def by_autograd():
    with mock.patch.object(DirectSteps, "can_train", return_value=False):
        yield


def within(context, function):
    def run():
        with context():
            function()

    return run


def seconds_of(function, device):
    gc.collect()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - start


def take_turns(contestants, device, repeats, warm=True):
    """Return the seconds of each contestant in each turn, by name."""
    found = {name: [] for name in contestants}
    if warm:
        for function in contestants.values():
            function()
    for turn in range(repeats):
        names = list(contestants)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(seconds_of(contestants[name], device))
    return {name: np.array(times) for name, times in found.items()}


def spread(values, digits=2):
    low, middle, high = np.min(values), np.median(values), np.max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} - {high:.{digits}f})"


def header(*columns):
    print("\n| " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * (len(columns) - 1), flush=True)


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def steps(device, repeats):
    header(
        *("network, batch", "loop, us per step", "fused Adam", "by hand in a graph"),
        *("skhpo", "not captured", "by autograd", "skhpo on the CPU"),
    )
    for name, case in STEPS.items():
        fit = partial(with_skhpo, device, case)
        contestants = {
            "loop": partial(by_hand, device, case),
            "fused": partial(by_hand, device, case, fused=True),
            "graph": partial(by_hand, device, case, fused=True, captured=True),
            "skhpo": fit,
            "rules": within(not_captured, fit),
            "autograd": within(by_autograd, fit),
        }
        if "dropout" in name or device == "cpu":
            del contestants["graph"]
        if case[0] is MLP and case[4] == 64:
            contestants["cpu"] = partial(with_skhpo, "cpu", case)
        times = take_turns(contestants, device, repeats)
        n_steps = case[5] * -(-case[3] // case[4])
        cells = [
            "-" if key not in times else spread(times[key] / times["loop"])
            for key in ("fused", "graph", "skhpo", "rules", "autograd", "cpu")
        ]
        row(name, f"{np.median(times['loop']) / n_steps * 1e6:.0f}", *cells)


def lockstep(device, repeats):
    print(
        "\nMilliseconds per network: of a fit, and of an epoch after the first three. "
        "The loop has fused Adam."
    )
    header(
        "network, batches of 64", "K", "ms of a fit", "ms of an epoch", "K loops / group", "peak MB"
    )
    for name, (settings, n_features, n_rows, epochs) in GROUPS.items():
        X, y = some_data((n_features,), n_rows)
        case = MLP, settings, (n_features,), n_rows, 64, epochs
        loop = take_turns({"": partial(by_hand, device, case, fused=True)}, device, repeats)[""]
        for size in SIZES:
            dur = []
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()

            def group(size=size, settings=settings, X=X, y=y, epochs=epochs, dur=dur):
                members = [
                    Member(make(number, settings, epochs, device), X, y) for number in range(size)
                ]
                errors = train_together(members, most=size)
                assert not any(errors), errors
                dur.append(np.median(members[0].net.history[3:, "dur"]))

            times = take_turns({"": group}, device, repeats)[""]
            peak = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else 0
            row(
                *(name, size, spread(times / size * 1e3), spread(np.array(dur) * 1e3, 3)),
                *(spread(loop / times * size), f"{peak:.0f}"),
            )


def make(number, settings, epochs, device):
    return TorchClassifier(
        MLP,
        **{f"module__{name}": value for name, value in settings.items()},
        optimizer="adam",
        lr=LEARNING_RATE * (1 + number % 4),
        batch_size=64,
        max_epochs=epochs,
        random_state=number,
        device=device,
    )


def amp(device, repeats):
    header(
        *("network, batch", "loop with autocast, us per step", "skhpo, float32"),
        *("skhpo, bfloat16", "bfloat16 / float32"),
    )
    for name, case in STEPS.items():
        if "dropout" in name:
            continue
        contestants = {
            "loop": partial(by_hand, device, case, fused=True, amp=True),
            "float32": partial(with_skhpo, device, case),
            "bfloat16": partial(with_skhpo, device, case, amp="auto" if device == "cuda" else True),
        }
        times = take_turns(contestants, device, repeats)
        n_steps = case[5] * -(-case[3] // case[4])
        row(
            *(name, f"{np.median(times['loop']) / n_steps * 1e6:.0f}"),
            *(spread(times[key] / times["loop"]) for key in ("float32", "bfloat16")),
            spread(times["bfloat16"] / times["float32"]),
        )


def search(device, repeats):
    X, y = digits()
    sizes = {"n_units": 64, "n_layers": 1}
    n_tried = 2  # of the 24 candidates, by skorch

    def grid(device, n_jobs, epochs=20):
        net = torch_net(sizes, max_epochs=epochs, device=device)
        SearchCV(
            net, GRID, scheduler=whole_grid, random_state=0, cv=5, n_jobs=n_jobs, refit=False
        ).fit(X, y)

    def hyperband(device, n_jobs, epochs=81):
        HalvingHyperbandSearchCV(
            torch_net(sizes, device=device),
            SPACE,
            **{"resource": "max_epochs", "max_resources": epochs, "cv": 3, "n_jobs": n_jobs},
            refit=False,
            random_state=0,
        ).fit(X, y)

    def by_skorch():
        net = skorch_net(sizes).set_params(device=device)
        few = {"lr": GRID["lr"][:n_tried], "optimizer__weight_decay": [0]}
        GridSearchCV(net, few, cv=5, n_jobs=1, refit=False).fit(X, y)

    parts = {
        "grid, 24 candidates x 5 folds, 64-64-10, 20 epochs": (
            grid,
            {f"skorch, on {device}, 1 process (extrapolated)": by_skorch},
        ),
        "Hyperband, 81 epochs, 3 folds, 64-64-10": (hyperband, {}),
    }
    header("search", "contestant", "seconds", "times as fast as the first")
    for name, (run, others) in parts.items():
        contestants = dict(others)
        for where, n_jobs in (("cpu", 1), ("cpu", 2), ("cpu", 8), (device, 1), (device, 2)):
            key = f"the package, on {where}, {n_jobs} processes"
            contestants[key] = partial(run, where, n_jobs)
            run(where, n_jobs, epochs=3)  # starts the workers
        times = take_turns(contestants, device, repeats, warm=False)
        for key in others:
            times[key] = times[key] * 24 / n_tried
        first = next(iter(times.values()))
        for key, values in times.items():
            row(name, key, spread(values), spread(first / values, 1))


def data(device, repeats):
    X, y = some_data((784,), 10_000)
    net = partial(make, 0, {"n_units": 64}, 5, device)
    subset = RowSubset(X, np.arange(len(X)))

    def batch_by_batch():
        with mock.patch.object(training_data, "_free_bytes", return_value=0):
            net().fit(X, y)

    contestants = {
        "on the GPU": lambda: net().fit(X, y),
        "a part of an array": lambda: net().fit(subset, y),
        "batch by batch": batch_by_batch,
    }
    times = take_turns(contestants, device, repeats)
    n_steps = 5 * -(-len(X) // 64)
    header("10,000 rows of 784, network 784-64-10, 5 epochs", "us per step", "ratio to the first")
    for key, values in times.items():
        row(key, spread(values / n_steps * 1e6, 0), spread(values / times["on the GPU"]))


PARTS = {"steps": steps, "lockstep": lockstep, "amp": amp, "search": search, "data": data}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    parser.add_argument("--only", nargs="*", help="how names of networks begin")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for named in (STEPS, GROUPS):
        for name in list(named):
            if args.only and not name.startswith(tuple(args.only)):
                del named[name]
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"{name}, one thread, {args.repeats} turns, torch {torch.__version__}; median (range)")
    for part in args.parts or PARTS:
        PARTS[part](args.device, args.repeats)


if __name__ == "__main__":
    main()
