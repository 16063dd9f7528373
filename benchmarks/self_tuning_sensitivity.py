"""Self-tuning networks: where schedules go from different starts, and what settings matter.

``starts``, ``steps`` and ``scales`` use the data and the MLP of ``self_tuning.py`` in its wide box:
schedules of one hyperparameter from three initial values; training steps per tuning step; scales of
the perturbations that are not tuned. ``response`` compares approximations of the best response of
a ridge regression, whose closed form is known, over the whole range of its penalty and locally.

    python benchmarks/self_tuning_sensitivity.py starts
    python benchmarks/self_tuning_sensitivity.py steps --seeds 0-4
    python benchmarks/self_tuning_sensitivity.py scales --seeds 0-4
    python benchmarks/self_tuning_sensitivity.py response --seeds 0-9
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from self_tuning import BATCH_SIZE, EPOCHS, LEARNING_RATE, NETS, data, log_loss, space
from torch import nn

from skhpo import SelfTuningClassifier
from skhpo.self_tuning import Context, HyperLinear

STARTS = (0.05, 0.5, 0.9)  # shares of the range
N_ROWS, N_FEATURES = (30, 200), 20  # of the ridge regression; training and validation
LOW, HIGH = math.log(1e-4), math.log(10.0)


def fitted(seed, ranges, start, n_epochs=EPOCHS, **settings):
    train, valid, _ = data("mlp", seed)
    return SelfTuningClassifier(
        NETS["mlp"],
        ranges,
        initial=start,
        lr=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        max_epochs=n_epochs,
        random_state=seed,
        **settings,
    ).fit(*train, validation_data=valid)


def starts(args):
    """Tune one hyperparameter from three initial values."""
    ranges, _ = space("mlp", "wide")
    print("| hyperparameter | starts | after 30 epochs | 60 | 120 | spread, share of the range |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in ("drop2.p", "input_noise", "label_smoothing"):
        high = ranges[name].support()[1]
        paths = []
        for share in STARTS:
            net = fitted(0, {name: ranges[name]}, {name: share * high}, 120)
            paths.append([share * high, *net.schedule_[name]])
        at = np.array(paths)[:, [0, 30, 60, 120]]
        spreads = (at.max(0) - at.min(0)) / high
        cells = [", ".join(f"{value:.2f}" for value in column) for column in at.T]
        shown = " -> ".join(f"{spread:.2f}" for spread in spreads)
        print(f"| {name} | {' | '.join(cells)} | {shown} |", flush=True)


def compare(args, candidates, usual):
    """Print validation losses under some settings, relative to the usual ones."""
    ranges, start = space("mlp", "wide")
    losses = {name: [] for name in candidates}
    for seed in seeds_of(args):
        valid = data("mlp", seed)[1]
        for name, settings in candidates.items():
            net = fitted(seed, ranges, start, **settings)
            losses[name].append(log_loss(net.collapse(), valid))
    print("| setting | validation loss (median) | ratio (median) | range |")
    print("| --- | ---: | ---: | ---: |")
    for name, values in losses.items():
        ratios = np.array(values) / losses[usual]
        print(
            f"| {name} | {np.median(values):.3f} | {np.median(ratios):.3f} "
            f"| {ratios.min():.3f} - {ratios.max():.3f} |"
        )


def steps(args):
    """Vary the training steps per tuning step."""
    candidates = {
        f"{a}:{b}": {"train_steps": a, "val_steps": b} for a, b in ((1, 1), (2, 1), (5, 1))
    }
    compare(args, candidates, "2:1")


def scales(args):
    """Keep the scales of the perturbations at some values."""
    fixed = {f"fixed, {s}": {"init_scale": s, "tune_scales": False} for s in (0.25, 1.0, 2.0)}
    compare(args, {"tuned from 1": {}, **fixed}, "tuned from 1")


class Ridge:
    """A ridge regression: (X, y) of both parts, and what is known of its best responses."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(N_FEATURES, 1, generator=generator, dtype=torch.float64)
        self.parts = []
        for n in N_ROWS:
            X = torch.randn(n, N_FEATURES, generator=generator, dtype=torch.float64)
            noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
            self.parts.append((X, X @ weight + 4 * noise))
        X, y = self.parts[0]
        self.gram, self.moment = X.t() @ X / len(X), X.t() @ y / len(X)

    def response(self, u):
        """Return the best weights (n, n_features) at log penalties (n, 1)."""
        eye = torch.eye(N_FEATURES, dtype=torch.float64)
        matrices = self.gram + u.exp().unsqueeze(2) * eye
        return torch.linalg.solve(matrices, self.moment.expand(len(u), -1, -1)).squeeze(2)

    def objective(self, w, u):
        """Return the mean over rows of half the training error and the penalty."""
        X, y = self.parts[0]
        errors = (w @ X.t() - y.t()).square().mean(1)
        return 0.5 * (errors + u[:, 0].exp() * w.square().sum(1)).mean()

    def valid(self, w):
        X, y = self.parts[1]
        return (w @ X.t() - y.t()).square().mean()


class Global(nn.Module):
    """A hypernetwork from the log penalty to the weights."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 50), nn.Tanh(), nn.Linear(50, N_FEATURES)).double()

    def forward(self, u):
        return self.net((u - (LOW + HIGH) / 2) / ((HIGH - LOW) / 4))


class Local(nn.Module):
    """The weights of a `HyperLinear`, affine in the response input."""

    def __init__(self):
        super().__init__()
        self.layer = HyperLinear(N_FEATURES, 1, bias=False).double()
        self.layer.attach(Context(["decay"]), scale=0.1)

    def forward(self, u):
        # An example (0, ..., 1, ..., 0) gives a weight.
        self.layer.context.response = u.repeat_interleave(N_FEATURES, 0)
        basis = torch.eye(N_FEATURES, dtype=torch.float64).repeat(len(u), 1)
        return self.layer(basis).view(len(u), N_FEATURES)


def train_response(ridge, net, sample, n_steps=1000):
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        u = sample()
        optimizer.zero_grad()
        ridge.objective(net(u), u).backward()
        optimizer.step()
        schedule.step()


def descend(ridge, net, u, n_steps=150):
    """Follow the validation loss of what a response predicts."""
    u = u.clone().requires_grad_()
    optimizer = torch.optim.Adam([u], lr=0.1)
    for _ in range(n_steps):
        optimizer.zero_grad()
        ridge.valid(net(u)).backward()
        optimizer.step()
        with torch.no_grad():
            u.clamp_(LOW, HIGH)
    return u.detach()


def alternate(ridge, net, u, n_steps=1500, scale=0.5):
    """Train a response around a log penalty that follows the validation loss meanwhile."""
    u = u.clone().requires_grad_()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2, fused=True)
    mover = torch.optim.Adam([u], lr=0.02)
    for step in range(n_steps):
        around = u.detach() + scale * torch.randn(32, 1, dtype=torch.float64)
        optimizer.zero_grad()
        ridge.objective(net(around), around).backward()
        optimizer.step()
        if step > n_steps / 4 and step % 2:
            (gradient,) = torch.autograd.grad(ridge.valid(net(u)), u)
            u.grad = gradient
            mover.step()
            with torch.no_grad():
                u.clamp_(LOW, HIGH)
    return u.detach()


def response(args):
    """Compare global and local approximations of a best response with the closed form."""
    grid = torch.linspace(LOW, HIGH, 400, dtype=torch.float64).unsqueeze(1)
    middle = torch.full((1, 1), (LOW + HIGH) / 2, dtype=torch.float64)
    found = {}
    for seed in seeds_of(args):
        torch.manual_seed(seed)
        ridge = Ridge(seed)
        exact = ridge.response(grid)
        best = min(ridge.valid(w[None]).item() for w in exact)

        def everywhere():
            return LOW + (HIGH - LOW) * torch.rand(32, 1, dtype=torch.float64)

        def note(name, net, u, over, exact=exact, best=best, ridge=ridge):
            with torch.no_grad():
                near = (grid[:, 0] - u).abs().squeeze() <= over
                error = (net(grid) - exact).norm(dim=1) / exact.norm(dim=1)
                excess = ridge.valid(ridge.response(u)).item() / best - 1
            row = (error[near].mean().item(), excess)
            found.setdefault(name, []).append(row)

        whole = Global()
        train_response(ridge, whole, everywhere)
        note("hypernetwork, whole range", whole, descend(ridge, whole, middle), math.inf)
        affine = Local()
        train_response(ridge, affine, everywhere)
        note("affine, whole range", affine, descend(ridge, affine, middle), math.inf)
        local = Local()
        u = alternate(ridge, local, middle)
        note("affine, local, alternating", local, u, 0.5)
    print("| response | error of the weights | range | excess validation loss | range |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, rows in found.items():
        error, excess = np.array(rows).T
        print(
            f"| {name} | {np.median(error):.1%} | {error.min():.1%} - {error.max():.1%} "
            f"| {np.median(excess):.2%} | {excess.min():.2%} - {excess.max():.2%} |"
        )


def seeds_of(args):
    first, _, last = args.seeds.partition("-")
    return range(int(first), int(last or first) + 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = {f.__name__: f for f in (starts, steps, scales, response)}
    parser.add_argument("command", choices=sorted(commands))
    parser.add_argument("--seeds", default="0-4")
    args = parser.parse_args()
    torch.set_num_threads(1)
    commands[args.command](args)


if __name__ == "__main__":
    main()
