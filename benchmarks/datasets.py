"""A search over a dataset of images in one file, against the same over arrays; padded texts.

*Images*: images of 3 x 32 x 32 bytes in one file; the dataset maps the file and makes a float32
tensor of an image when it is asked for it. Two candidates of a ``ConvNet`` train for an epoch on
80% of the images and are scored on the rest. The arrays are float32, and in memory. Seconds of the
processor of one thread, in turn, several times. Networks of known layers are trained on arrays
without autograd, on datasets by autograd, so there are also arrays by autograd.

*Memory*: what is allocated (pages of files are not) by the driver and two worker processes while
the search over the dataset runs, with all images and with a tenth.

*Texts*: sequences of 5 to 120 tokens, an ``Embedding`` and a GRU over packed sequences. Two epochs
of ``TorchClassifier(collate="pad")`` against a loop that sorts, pads and packs by hand, with the
same optimizer.

``python benchmarks/datasets.py`` prints the table of ``docs/benchmarks/datasets.md``.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import torch
from memory import family
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import Dataset

from skhpo import SearchCV, TorchClassifier
from skhpo.modules import ConvNet
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

SHAPE = (3, 32, 32)


class Images(Dataset):
    """Images in a file, and their labels."""

    def __init__(self, path, targets):
        self.images = np.load(path, mmap_mode="r")
        self.targets = targets

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return torch.tensor(self.images[i]).float().div_(255), self.targets[i]


def written(folder, n):
    """Write images that have something to learn; return the path and the labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, n)
    path = os.path.join(folder, f"{n}.npy")
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (n, *SHAPE))
    for i in range(n):
        images[i] = rng.integers(0, 200, SHAPE)
        images[i, y[i] % 3, 3 * y[i] : 3 * y[i] + 3] += 50
    images.flush()
    return path, y


def whole_grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


class ByAutograd(TorchClassifier):
    """Has a loss of its own, as far as direct steps know."""

    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs)


def search(n, n_jobs=1, kind=TorchClassifier):
    split = np.split(np.random.default_rng(1).permutation(n), [n * 4 // 5])
    net = kind(ConvNet, max_epochs=1)
    kwargs = {"scheduler": whole_grid, "cv": [split], "refit": False, "random_state": 0}
    return SearchCV(net, {"lr": [1e-3, 3e-3]}, n_jobs=n_jobs, **kwargs)


def timed(function):
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def compare_images(n, n_repeats):
    with tempfile.TemporaryDirectory() as folder:
        path, y = written(folder, n)
        dataset = Images(path, y)
        arrays = np.load(path).astype(np.float32) / 255
        search(n // 10, kind=ByAutograd).fit(arrays[: n // 10], y[: n // 10])  # imports
        ratios, by_autograd, seconds = [], [], []
        for _ in range(n_repeats):
            own, one = timed(lambda: search(n).fit(dataset))
            peer, other = timed(lambda: search(n).fit(arrays, y))
            plain, _ = timed(lambda: search(n, kind=ByAutograd).fit(arrays, y))
            ratios.append(own / peer)
            by_autograd.append(own / plain)
            seconds.append(peer)
    scores = [search.cv_results_["mean_test_score"] for search in (one, other)]
    print(f"| {n:,} images: search over the dataset / over arrays | {spread(ratios)} |")
    print(f"| ... / over arrays, by autograd | {spread(by_autograd)} |")
    print(f"| seconds with arrays | {spread(seconds)} |")
    print(f"| largest difference of scores | {np.abs(scores[0] - scores[1]).max():.2g} |")


def anonymous(pid):
    """Return the bytes that a process has allocated, without pages of files."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            lines = file.read().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def measure_memory(n):
    """Print the largest number of bytes that this process and its workers have allocated."""
    readings, stopped = [], threading.Event()

    def read():
        while not stopped.wait(0.1):
            readings.append(sum(map(anonymous, family(os.getpid()))))

    with tempfile.TemporaryDirectory() as folder:
        path, y = written(folder, n)
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        search(n, n_jobs=2).fit(Images(path, y))
        stopped.set()
        thread.join()
    print(max(readings))


def memory_of(n):
    command = [sys.executable, __file__, "--memory-of", str(n)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare_memory(n, n_repeats):
    small, large = ([memory_of(rows) / 1e6 for _ in range(n_repeats)] for rows in (n // 10, n))
    n_bytes = (n - n // 10) * int(np.prod(SHAPE))
    for rows, found in ((n // 10, small), (n, large)):
        print(f"| MB allocated with {rows:,} images | {spread(found)} |", flush=True)
    difference = statistics.median(large) - statistics.median(small)
    print(f"| more for {n_bytes / 1e6:.0f} MB more of data | {difference:.0f} MB |")


class Recurrent(nn.Module):
    def __init__(self, out_features=2, n_tokens=2000, width=64):
        super().__init__()
        self.table = nn.Embedding(n_tokens, width)
        self.rnn = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, out_features)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(
            self.table(x), lengths, batch_first=True, enforce_sorted=False
        )
        return self.out(self.rnn(packed)[1][-1])


def texts(n):
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3, 0.7, n), 5, 120).astype(int)
    return [rng.integers(1, 2000, length) for length in lengths], rng.integers(0, 2, n)


def by_hand(rows, y, batch_size, n_epochs):
    torch.manual_seed(0)
    module, loss_of = Recurrent(), nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    rows, y = [torch.from_numpy(row) for row in rows], torch.from_numpy(y)
    lengths = torch.tensor([len(row) for row in rows])
    for _ in range(n_epochs):
        order = torch.randperm(len(rows))
        parts = [part[torch.argsort(lengths[part])] for part in order.split(50 * batch_size)]
        batches = torch.cat(parts).split(batch_size)
        for i in torch.randperm(len(batches)).tolist():
            batch = batches[i]
            x = pad_sequence([rows[j] for j in batch.tolist()], batch_first=True)
            optimizer.zero_grad()
            loss = loss_of(module(x, lengths[batch]), y[batch])
            loss.backward()
            optimizer.step()


def compare_texts(n, n_repeats, n_epochs=2):
    rows, y = texts(n)
    ratios = {"auto": [], False: []}
    by_hand(rows[:100], y[:100], 32, 1)  # imports
    TorchClassifier(Recurrent, collate="pad", max_epochs=1).fit(rows[:100], y[:100])
    for _ in range(n_repeats):
        peer, _ = timed(lambda: by_hand(rows, y, 32, n_epochs))
        for grouped, found in ratios.items():
            net = TorchClassifier(
                Recurrent, collate="pad", group_by_length=grouped, max_epochs=n_epochs
            )
            found.append(timed(lambda net=net: net.fit(rows, y))[0] / peer)
    print(
        f"| {n:,} texts: fit / hand-written loop that groups by length | {spread(ratios['auto'])} |"
    )
    print(f"| the same with `group_by_length=False` | {spread(ratios[False])} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory-of", type=int)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=["texts", "images", "memory"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory_of is not None:
        measure_memory(args.memory_of)
        return
    print("| what | median (range) |\n| --- | --- |")
    if "texts" in args.parts:
        compare_texts(args.n // 4, args.repeats)
    if "images" in args.parts:
        compare_images(args.n, args.repeats)
    if "memory" in args.parts:
        compare_memory(args.n, args.repeats)


if __name__ == "__main__":
    main()
