"""Which of a search's best candidates to refit: rules, by the test loss of what they return.

Hyperband searches a table for so many seconds of the processor, as in `race.py`, but with another
quarter of the rows as test for each seed. Its twelve best candidates over the folds are recorded:
each is scored again on other folds, twice, and trained on all rows under four seeds, whose
predictions of the test are kept. What a rule would have returned is then a matter of reading.

    python benchmarks/selection.py tables --folder tables
    python benchmarks/selection.py run --first-seed 50 --seeds 2 --results chosen
    python benchmarks/selection.py run --folder tables --tables titanic --results unused
    python benchmarks/selection.py table --results chosen unused

"tables" writes tables of scikit-learn, and `titanic`, as CSV with a column ``target``. "table"
prints a group of columns for each folder of results.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from race import DATA, TABLES, loss_of, read_task
from race_contestants import EPOCHS, SPACE, TimeIsOver, network
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.model_selection import KFold, StratifiedKFold

from skhpo import (
    BayesSearchCV,
    EnsembleClassifier,
    EnsembleRegressor,
    HalvingHyperbandSearchCV,
    SearchSpace,
    log_randint,
)
from skhpo.ensembles import select_members
from skhpo.samplers import ScoreModel

N_BEST = 12
N_NETWORKS = 4
N_AGAIN = 2  # times that each is scored on other folds


class Record:
    """Notes the rows of a search, and stops it when its time is over."""

    def __init__(self, seconds=np.inf):
        self.start = time.process_time()
        self.seconds = seconds
        self.rows = {}

    def on_fit_end(self, search, trial, result):
        at = time.process_time() - self.start
        if at > self.seconds:
            raise TimeIsOver
        row = self.rows.setdefault(
            trial.number,
            {
                "candidate": trial.candidate,
                "params": dict(trial.params),
                "epochs": trial.resource,
                "losses": [],
            },
        )
        row["losses"].append(-result.test_scores.get("score", np.nan))
        row["at"] = at

    def complete(self, n):
        """Return the rows that have finite losses on all folds."""
        rows = [row for row in self.rows.values() if len(row["losses"]) == n]
        return [row for row in rows if np.all(np.isfinite(row["losses"]))]


def searched(task, seed, seconds):
    record = Record(seconds)
    search = HalvingHyperbandSearchCV(
        network(task),
        SPACE,
        average=None,
        n_iterations=1000,
        scoring=task.scoring,
        cv=task.folds,
        refit=False,
        random_state=seed,
        callbacks=[record],
    )
    with suppress(TimeIsOver):
        search.fit(task.X, task.y)
    return record.complete(len(task.folds))


def best_rows(rows):
    """Return each candidate's best row, the best candidates first."""
    best = {}
    for row in sorted(rows, key=lambda row: np.mean(row["losses"])):
        best.setdefault(row["candidate"], row)
    return list(best.values())[:N_BEST]


def scored_again(task, rows, seed):
    """Return the rows' losses on other folds, and the processor seconds of each."""
    kind = StratifiedKFold if task.is_classes else KFold
    record = Record()
    search = BayesSearchCV(
        network(task),
        {**SPACE, "max_epochs": list(range(1, EPOCHS + 1))},
        n_iter=len(rows),
        enqueue=[{**row["params"], "max_epochs": row["epochs"]} for row in rows],
        scoring=task.scoring,
        cv=kind(5, shuffle=True, random_state=seed),
        refit=False,
        random_state=seed,
        callbacks=[record],
        return_predictions=True,
    )
    search.fit(task.X, task.y)
    unseen = [search.out_of_fold_predictions(i)[0] for i in range(len(rows))]
    found = [record.rows[number] for number in sorted(record.rows)]
    assert [one["params"]["lr"] for one in found] == [row["params"]["lr"] for row in rows]
    ends = np.diff([0.0, *(one["at"] for one in found)])
    return [one["losses"] for one in found], ends.tolist(), unseen


def networks(task, row, seeds):
    """Return networks that are trained on all rows under these seeds."""
    of = EnsembleClassifier if task.is_classes else EnsembleRegressor
    nets = [
        network(task, random_state=seed, **row["params"], max_epochs=row["epochs"])
        for seed in seeds
    ]
    return of(nets).fit(task.X, task.y).members_


def case(args, table, seed):
    """Search a table, and write what is known of the best candidates to two files."""
    task = read_task(args.folder, table, seed, test_seed=seed)
    start = time.process_time()
    rows = searched(task, seed, args.seconds)
    took = [time.process_time() - start]
    best = best_rows(rows)
    again = [scored_again(task, best, 1000 * (i + 1) + seed) for i in range(N_AGAIN)]
    took.append(time.process_time() - start)
    outputs = []
    for i, row in enumerate(best):
        row["again"] = [losses[i] for losses, _, _ in again]
        row["again_seconds"] = [seconds[i] for _, seconds, _ in again]
        nets = networks(task, row, range(2000, 2000 + N_NETWORKS))
        row["test"] = [loss_of(task, net) for net in nets]
        of = "predict_proba" if task.is_classes else "predict"
        outputs.append(np.array([getattr(net, of)(task.X_test) for net in nets], np.float32))
    took.append(time.process_time() - start)
    found = {}
    for average in ("ema", "swa"):
        row = {**best[0], "params": {**best[0]["params"], "average": average}}
        nets = networks(task, row, range(2000, 2000 + N_NETWORKS))
        found[average] = [loss_of(task, net) for net in nets]
    name = f"{table}-{seed}"
    np.savez_compressed(
        args.results[0] / f"{name}.npz",
        outputs=np.array(outputs),
        y=task.y_test,
        y_train=task.y,
        unseen=np.array([unseen for _, _, unseen in again], np.float32),
    )
    found |= {
        "seconds": args.seconds,
        "table": table,
        "seed": seed,
        "is_classes": task.is_classes,
        "took": took,
    }
    found |= {"best": [rows.index(row) for row in best], "rows": rows}
    (args.results[0] / f"{name}.json").write_text(json.dumps(found, default=float))
    print(table, seed, len(rows), np.round(took, 0), [round(r["test"][0], 4) for r in best[:4]])


# Rules, offline.


class Case:
    """A search that was recorded: its best candidates, the best first.

    `folds`, `again` and `test` are losses of shape (12, 5), (12, 2, 5) and (12, 4).
    """

    def __init__(self, path):
        found = json.loads(path.read_text())
        arrays = np.load(path.with_suffix(".npz"))
        self.table, self.seed, self.rows = found["table"], found["seed"], found["rows"]
        self.is_classes, self.took = found["is_classes"], found["took"]
        self.best = found["best"]
        self.outputs, self.y = arrays["outputs"], arrays["y"]
        self.unseen = arrays.get("unseen"), arrays.get("y_train")
        self.averages = {name: found[name] for name in ("ema", "swa") if name in found}
        rows = self.candidates = [self.rows[i] for i in found["best"]]
        self.folds, self.again, self.test = (
            np.array([row[name] for row in rows]) for name in ("losses", "again", "test")
        )
        self.means = self.test.mean(axis=1)

    def loss(self, y, output):
        if self.is_classes:
            output = output.astype(float)
            return log_loss(y, output / output.sum(axis=1, keepdims=True), labels=np.unique(self.y))
        return root_mean_squared_error(y, output)

    def average(self, numbers, weights=None, n_each=1):
        """Return what the average of candidates loses, the mean over disjoint sets of networks."""
        sets = range(0, N_NETWORKS - n_each + 1, n_each)
        outputs = [self.outputs[numbers, i : i + n_each].mean(axis=1) for i in sets]
        return np.mean([self.loss(self.y, np.average(o, 0, weights)) for o in outputs])

    def units(self, numbers):
        rows = [self.rows[i] for i in numbers]
        given = [{**row["params"], "max_epochs": row["epochs"]} for row in rows]
        return POINTS.snap(np.array([POINTS.to_unit(one) for one in given]))


POINTS = SearchSpace({**SPACE, "max_epochs": log_randint(1, EPOCHS + 1)})


def by_model(case, share):
    """Return the largest mean of a Gaussian process, of all rows or of the better ones."""
    scores = -np.log(np.mean([row["losses"] for row in case.rows], axis=1))
    good = np.argsort(-scores)[: int(share * len(scores))].tolist()
    rows = [*case.best, *(row for row in good if row not in case.best)]
    u = case.units(rows)
    return int(np.argmax(ScoreModel(POINTS, u, scores[rows]).predict(u[: len(case.best)])[0]))


def by_two_levels(case):
    """Return the least mean of log losses at a candidate's best level and at the one below."""
    losses = []
    for row in case.candidates:
        below = [
            other
            for other in case.rows
            if other["candidate"] == row["candidate"] and other["epochs"] < row["epochs"]
        ]
        two = [row, max(below, key=lambda other: other["epochs"])] if below else [row]
        losses.append(np.mean([np.log(np.mean(one["losses"])) for one in two]))
    return int(np.argmin(losses))


def within_error(case, key):
    """Return the least key of those within one standard error of the best, fold by fold."""
    differences = case.folds - case.folds[0]
    error = differences.std(axis=1, ddof=1) / case.folds.shape[1] ** 0.5
    near = np.flatnonzero(differences.mean(axis=1) <= error)
    return int(near[np.argmin([key(case.candidates[i]) for i in near])])


def by_centre(case):
    u = case.units(case.best)
    distances = np.abs(u[:, None] - u).sum(axis=(1, 2))
    numbers = {id(row): i for i, row in enumerate(case.candidates)}
    return within_error(case, lambda row: distances[numbers[id(row)]])


def by_rank(case):
    return int(np.argmin(case.folds.argsort(axis=0).argsort(axis=0).mean(axis=1)))


def confirmed(case, n, times=1):
    """Return the least mean of the losses on all folds, of the n best."""
    losses = case.folds.mean(axis=1) + case.again[:, :times].mean(axis=2).sum(axis=1)
    return int(np.argmin(losses[:n]))


def confirmed_in_time(case, n):
    """Return what `confirmed` does where the search ends sooner by the time that confirming takes.

    What was among the best only then, and was not recorded, is left out.
    """
    took = sum(row["again_seconds"][0] for row in case.candidates[:n])
    in_time = [row for row in case.rows if row["at"] <= case.took[0] - took]
    best = [id(row) for row in best_rows(in_time)]
    numbers = [i for i, row in enumerate(case.candidates) if id(row) in best][:n]
    losses = case.folds.mean(axis=1) + case.again[:, 0].mean(axis=1)
    return min(numbers, key=lambda i: losses[i], default=0)


def greedy(case, n_selected=20):
    """Return candidates and weights, selected by predictions of rows that were not seen."""
    unseen, y = case.unseen
    if unseen is None:
        return None

    def score(averages):
        return np.array([-case.loss(y, average) for average in averages])

    counts = select_members(unseen[0], score, n_selected, random_state=0)
    chosen = np.flatnonzero(counts)
    return chosen, counts[chosen]


def size(row):
    units, layers = row["params"]["module__n_units"], row["params"]["module__n_layers"]
    return units * (40 + (layers - 1) * units)


def parameter(name, sign=1):
    return lambda case: within_error(case, lambda row: sign * row["params"][name])


# What each returns: a candidate, whose networks are returned one at a time.
ONE = {
    "best mean (the search)": lambda case: 0,
    "any of the twelve": lambda case: list(range(len(case.best))),
    "Gaussian process of all rows": lambda case: by_model(case, 1.0),
    "Gaussian process of the better half": lambda case: by_model(case, 0.5),
    "mean with the level below": by_two_levels,
    "within an error: fewest parameters": lambda case: within_error(case, size),
    "within an error: smallest learning rate": parameter("lr"),
    "within an error: smallest batches": parameter("batch_size"),
    "within an error: most dropout": parameter("module__dropout", -1),
    "within an error: most epochs": lambda case: within_error(case, lambda row: -row["epochs"]),
    "within an error: centre of the twelve": by_centre,
    "best mean rank over folds": by_rank,
    "best median difference over folds": lambda case: int(
        np.argmin(np.median(case.folds - case.folds[0], axis=1))
    ),
    "confirm the best 3": lambda case: confirmed(case, 3),
    "confirm the best 3, in the same time": lambda case: confirmed_in_time(case, 3),
    "confirm the best 12": lambda case: confirmed(case, 12),
    "confirm the best 12, twice": lambda case: confirmed(case, 12, 2),
}
# What is averaged.
SEVERAL = {
    "best, four seeds": lambda case: case.average([0], n_each=4),
    "two best, two seeds each": lambda case: case.average([0, 1], n_each=2),
    "four best": lambda case: case.average(range(min(4, len(case.best)))),
    "confirmed of 3, four seeds": lambda case: case.average([confirmed(case, 3)], n_each=4),
    "twelve best": lambda case: case.average(range(len(case.best))),
    "twelve best, four seeds each": lambda case: case.average(range(len(case.best)), n_each=4),
}


def other_networks(case):
    """Return the loss of the candidate that other networks of it say is the best on the test."""
    half = N_NETWORKS // 2
    parts = case.test[:, :half].mean(axis=1), case.test[:, half:].mean(axis=1)
    return np.mean([of[np.argmin(by)] for by, of in (parts, parts[::-1])])


def losses_of(case):
    """Return the test loss by rule."""
    losses = {name: np.mean(case.means[rule(case)]) for name, rule in ONE.items()}
    losses["(best by the test of other networks)"] = other_networks(case)
    losses |= {name: rule(case) for name, rule in SEVERAL.items()}
    if case.unseen[0] is not None:
        losses["selected of the twelve, once each"] = case.average(*greedy(case))
    losses |= {f"best, {name}": np.mean(found) for name, found in case.averages.items()}
    return losses


def table(args):
    groups = {
        folder.name: [Case(path) for path in sorted(folder.glob("*.json"))]
        for folder in args.results
    }
    cases = [case for own in groups.values() for case in own]
    losses = {id(case): losses_of(case) for case in cases}
    every = list(dict.fromkeys(name for own in losses.values() for name in own))
    heads = [f"loss, {len(own)} {name} | median | +, - | left" for name, own in groups.items()]
    print(f"| what is returned | {' | '.join(heads)} |")
    print("| --- |" + " ---: |" * 4 * len(groups))
    for name in every:
        row = [cells(name, own, losses) for own in groups.values()]
        print(f"| {name} | {' | '.join(row)} |")
    print()
    print(*variances(cases), sep="\n")


def cells(name, cases, losses):
    """Return how a rule's losses differ from those of the best mean, and what is left to win."""
    known = [case for case in cases if name in losses[id(case)]]
    if not known:
        return "- | - | -"
    own = np.array([losses[id(case)][name] for case in known])
    today, best = np.array([(case.means[0], case.means.min()) for case in known]).T
    changes = 100 * (own / today - 1)
    error = f" ± {changes.std(ddof=1) / len(known) ** 0.5:.1f}" if len(known) > 1 else ""
    less, more = (changes < -1e-9).sum(), (changes > 1e-9).sum()
    left = np.sum(own / best - 1) / np.sum(today / best - 1)
    few = f" ({len(known)})" if len(known) < len(cases) else ""
    change = f"{changes.mean():+.1f}{error}%{few} | {np.median(changes):+.1f}%"
    return f"{change} | {less}, {more} | {left:.2f}"


def variances(cases):
    """Return lines of what the loss depends on, by table."""
    lines = [
        "| table | searches | networks of a candidate | candidates | correlation: folds, test "
        "| other folds, test | both, test | folds, other folds | best: other folds / folds "
        "| best mean / true best |",
        "| --- |" + " ---: |" * 9,
    ]
    for name in dict.fromkeys(case.table for case in cases):
        rows = []
        for case in cases:
            if case.table == name:
                within = case.test.var(axis=1, ddof=1).mean()
                between = max(case.means.var(ddof=1) - within / N_NETWORKS, 0.0)
                spread = 100 * np.sqrt([within, between]) / case.test.mean()
                folds, again = case.folds.mean(axis=1), case.again.mean(axis=(1, 2))
                pairs = [
                    (folds, case.means),
                    (again, case.means),
                    (folds + 2 * again, case.means),
                    (folds, again),
                ]
                r = [np.corrcoef(*pair)[0, 1] for pair in pairs]
                rows.append([*spread, *r, again[0] / folds[0], to_true_best(case)])
        within, between, *r, ratio, gap = np.mean(rows, axis=0)
        shown = " | ".join(f"{one:.2f}" for one in r)
        shown = f"{within:.1f}% | {between:.1f}% | {shown} | {ratio:.3f} | {gap:.3f}"
        lines.append(f"| {name} | {len(rows)} | {shown} |")
    return lines


def to_true_best(case, n_draws=2000):
    """Return the ratio of the loss of the best mean to that of a perfect choice of the twelve.

    The mean test loss of a candidate over all seeds is a draw from its posterior, given those of
    its networks, as both vary in this search.
    """
    noise = case.test.var(axis=1, ddof=1).mean() / N_NETWORKS
    between = max(case.means.var(ddof=1) - noise, 0.0)
    kept = between / (between + noise)
    posterior = case.means.mean() + kept * (case.means - case.means.mean())
    draws = np.random.default_rng(0).standard_normal((n_draws, len(posterior)))
    true = posterior + (kept * noise) ** 0.5 * draws
    return true[:, 0].mean() / true.min(axis=1).mean()


def write_tables(args):
    """Write further small tables, whose columns `read_task` understands."""
    args.folder.mkdir(exist_ok=True)
    loaders = {"diabetes": load_diabetes, "cancer": load_breast_cancer, "digits": load_digits}
    for name, load in loaders.items():
        table = load(as_frame=True)
        table.data.assign(target=table.target).to_csv(args.folder / f"{name}.csv", index=False)
    titanic = DATA / "titanic.csv"
    if titanic.exists():
        table = pd.read_csv(titanic).rename(columns={"Survived": "target"})
        table = table.drop(columns=["PassengerId", "Name", "Ticket", "Cabin"])
        table.to_csv(args.folder / titanic.name, index=False)


def run(args):
    args.results[0].mkdir(exist_ok=True)
    start = time.monotonic()
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for table in args.tables:
            over = time.monotonic() - start > args.stop_after
            if over or (args.results[0] / f"{table}-{seed}.json").exists():
                continue
            case(args, table, seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["tables", "run", "table"])
    parser.add_argument("--folder", type=Path, default=DATA)
    parser.add_argument("--tables", nargs="+", default=TABLES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--results", type=Path, nargs="+", default=[Path("selection")])
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="wall seconds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    {"tables": write_tables, "run": run, "table": table}[args.what](args)


if __name__ == "__main__":
    main()
