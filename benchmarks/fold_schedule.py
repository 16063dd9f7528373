"""Hyperband whose early rungs are fitted on fewer folds: a simulation at equal cost.

Softmax regressions at random configurations (learning rate, momentum, penalty, dropout of features)
are trained on five folds, and scored (log loss) after 1, 3, 9 and 27 epochs. Hyperband is then
replayed on the table, with so many folds in the rungs from 1 to 27 epochs; further folds of a
promoted candidate are trained from the start, which counts. Regret is that of the candidate with
the best score over five folds: 0 is the best of the table, 1 the expected best of ten at random.

Run it with ``python benchmarks/fold_schedule.py``; it takes less than a minute.
"""

import argparse

import numpy as np
from sklearn.datasets import load_breast_cancer, load_wine, make_classification
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

LEVELS = (1, 3, 9, 27)
N_FOLDS = 5
SCHEDULES = ((5, 5, 5, 5), (1, 2, 3, 5), (2, 3, 4, 5), (3, 3, 5, 5))
BUDGETS = (6, 12, 24)  # in candidates with 27 epochs on five folds
TASKS = {
    "noisy": lambda: make_classification(300, 20, n_informative=5, flip_y=0.2, random_state=3),
    "cancer": lambda: load_breast_cancer(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
}


def probabilities(X, weights):
    logits = X @ weights
    logits -= logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def curves(X, y, n, seed=0):
    """Scores of shape (n, n_folds, n_levels); all configurations are trained side by side."""
    rng = np.random.default_rng(seed)
    X = np.c_[StandardScaler().fit_transform(X), np.ones(len(X))]
    rate, penalty = 10 ** rng.uniform(-3, 0.7, n), 10 ** rng.uniform(-5, 0, n)
    momentum, dropped = rng.uniform(0, 0.95, n), rng.uniform(0, 0.8, n)
    rate, penalty, momentum, dropped = (
        column[:, None, None] for column in (rate, penalty, momentum, dropped)
    )
    targets = np.eye(y.max() + 1)[y]
    scores = np.empty((n, N_FOLDS, len(LEVELS)))
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0).split(X, y)
    for fold, (train, test) in enumerate(folds):
        weights = np.zeros((n, X.shape[1], targets.shape[1]))
        velocity = np.zeros_like(weights)
        for epoch in range(1, LEVELS[-1] + 1):
            for rows in np.array_split(rng.permutation(train), max(1, len(train) // 64)):
                kept = rng.random((n, 1, X.shape[1])) > dropped
                batch = X[rows] * kept / (1 - dropped)
                error = probabilities(batch, weights) - targets[rows]
                gradient = batch.transpose(0, 2, 1) @ error / len(rows) + penalty * weights
                velocity = momentum * velocity - rate * gradient
                weights = weights + velocity
            if epoch in LEVELS:
                right = probabilities(X[test], weights)[:, np.arange(len(test)), y[test]]
                logs = np.log(np.maximum(np.nan_to_num(right), 1e-6))
                scores[:, fold, LEVELS.index(epoch)] = np.maximum(logs, -5).mean(axis=1)
    return scores


def hyperband(scores, n_folds, seed):
    """True scores of the incumbent at each budget."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(scores)).tolist() * 3
    true, cost, best, incumbents = scores[:, :, -1].mean(axis=1), 0, -np.inf, []
    whole = LEVELS[-1] * N_FOLDS
    while cost < whole * BUDGETS[-1]:
        for first, n in enumerate((27, 12, 6, 4)):
            alive = [order.pop() if order else int(rng.integers(len(scores))) for _ in range(n)]
            done = {candidate: [0] * N_FOLDS for candidate in alive}
            for rung in range(first, len(LEVELS)):
                used = n_folds[rung]
                for candidate in alive:
                    epochs = done[candidate]
                    cost += sum(LEVELS[rung] - before for before in epochs[:used])
                    epochs[:used] = [LEVELS[rung]] * used
                    if rung == len(LEVELS) - 1:
                        best = max(best, true[candidate])
                        incumbents.append((cost, best))
                mean = scores[:, :used, rung].mean(axis=1)
                alive = sorted(alive, key=lambda one: -mean[one])[: max(1, len(alive) // 3)]
    return [
        next(value for spent, value in reversed(incumbents) if spent <= whole * budget)
        for budget in BUDGETS
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configurations", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=60)
    args = parser.parse_args()
    heads = " | ".join(f"after {budget}" for budget in BUDGETS)
    print(f"| task | folds by rung | {heads} |")
    print("| --- | --- |" + " ---: |" * len(BUDGETS))
    means = {folds: [] for folds in SCHEDULES}
    with np.errstate(all="ignore"):
        for name, load in TASKS.items():
            scores = curves(*load(), args.configurations)
            true = scores[:, :, -1].mean(axis=1)
            drawn = np.random.default_rng(0).choice(true, (500, 10)).max(axis=1).mean()
            for folds in SCHEDULES:
                found = np.array([hyperband(scores, folds, seed) for seed in range(args.seeds)])
                regret = (true.max() - found) / (true.max() - drawn)
                error = regret.std(axis=0) / args.seeds**0.5
                cells = " | ".join(
                    f"{r:.2f} ± {e:.2f}" for r, e in zip(regret.mean(0), error, strict=True)
                )
                print(f"| {name} | {', '.join(map(str, folds))} | {cells} |", flush=True)
                means[folds].append(regret.mean(axis=0))
    for folds in SCHEDULES[1:]:
        ratio = np.mean(means[folds], axis=0) / np.mean(means[SCHEDULES[0]], axis=0)
        cells = " | ".join(f"{one:.2f}" for one in ratio)
        print(f"| ratio to five folds | {', '.join(map(str, folds))} | {cells} |")


if __name__ == "__main__":
    main()
