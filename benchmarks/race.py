"""What the network returned after so many seconds loses on the test: our searches and their peers.

A quarter of each table is a test that nobody sees, the other rows are searched with five folds. All
contestants that train networks have the same network, space and folds and the same seconds of the
processor, in one process with one thread; what is imported and compiled once is so before. They are
in `race_contestants.py`:

* ``bayes``, ``hyperband``, ``hyperband-bayes``: `BayesSearchCV` and `HalvingHyperbandSearchCV`
  (with ``sampler="bayes"``), all else their defaults. ``hyperband-last`` has ``average=None``: the
  last weights. ``hyperband-folds`` has ``fold_schedule="auto"``, and returns only what was fitted
  on all folds, ``hyperband-priors`` ``priors="defaults"``. ``bayes-single`` has no lockstep;
  ``bayes-racing`` has none either, and ``racing="auto"``, which does nothing where the folds are
  trained in lockstep.
* ``tpe-hyperband``, ``tpe-wilcoxon``, ``gp``: a loop in PyTorch by hand under Optuna, with
  `TPESampler` and `HyperbandPruner` (all folds an epoch at a time, their mean is reported), with
  `TPESampler` and `WilcoxonPruner` (fold by fold), and with `GPSampler`; the default parameters are
  tried first, as in the searches of this package. ``tpe-hyperband-ema`` averages weights as
  Hyperband of this package does, where people would write such a loop without.
* ``syne-tune-asha``, ``syne-tune-bohb``, ``neps-priorband``: the same loop, under `ASHA` and
  `BOHB` of Syne Tune, which hear the mean of the folds after each epoch, and PriorBand of NePS,
  whose priors are the default parameters and whose candidates are continued. All have rungs of 1,
  3, 9, 27 and 81 epochs and try the default parameters first. Their requirements hold back those of
  others, so that they are no part of the ``benchmarks`` extra: install it with
  ``neural-pipeline-search``, ``syne-tune`` and ``statsmodels`` in an environment of its own. What
  is not installed is left out.
* ``random-skorch``, ``halving-skorch``: `RandomizedSearchCV`, and `HalvingRandomSearchCV` over
  ``max_epochs``, of a skorch net; halving starts again under another seed until time is over.
* ``keras-tuner``: its Hyperband, on the first fold only, with Keras on torch.
* ``boosting``: `HistGradientBoosting` under `RandomizedSearchCV`, what a network has to justify
  itself against.

At each twentieth of the time a contestant would return its best configuration until then, or the
default parameters if it has none. After the race that is trained on all rows that were searched, by
the same trainer for all networks, and asked for the test. It is also trained
under four more seeds, for all contestants alike: the mean of the five losses depends less on the
luck of one seed, and the predictions of the five are averaged. *Regret* is the test
loss minus the smallest of any contestant of that table and seed, in units of what the default
parameters lose more than that (2% of their loss at least).

    python benchmarks/race.py --write docs/benchmarks/race.md
    python benchmarks/race.py --seconds 3 --seeds 1 --tables concrete --only bayes gp  # a try

``--folder`` has tables of your own: a CSV (or .csv.gz) each, with a column ``target``.
``--results`` keeps a line for each run, in the first file; what is in one of them is not run
again. ``--stop-after`` ends between two runs, and 0 runs nothing. ``--write`` puts the results in
the place of older ones of the same seconds and contestants in the page; its words stay.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pandas as pd
import torch
from race_contestants import (
    BASELINES,
    CONTESTANTS,
    EPOCHS,
    NEEDS,
    Clock,
    Task,
    TimeIsOver,
    refitted,
)
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
TABLES = ["attrition", "concrete", "satimage", "churn"]
WORST_DRAWN = 2  # so that one table does not hide the others
N_AVERAGED = 5
MOMENTS = np.linspace(0.05, 1.0, 20)  # shares of the time
# What a contestant would return is judged by one network, the mean of some, and their average.
JUDGED = {
    "losses": "one network",
    "means": f"mean of {N_AVERAGED} networks",
    "averages": f"{N_AVERAGED} averaged",
}


def read_task(folder, name, seed, test_seed=0):
    """Return a table as a `Task`: a quarter of it is the test; folds depend on the seed."""
    path = next(
        path for ending in (".csv.gz", ".csv") if (path := folder / (name + ending)).exists()
    )
    frame = pd.read_csv(path).dropna(subset="target")
    y = frame.pop("target").to_numpy()
    is_number = np.issubdtype(y.dtype, np.number)
    is_classes = not is_number or len(np.unique(y)) <= 20
    text = frame.select_dtypes(exclude="number").columns
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    names = make_pipeline(
        SimpleImputer(strategy="most_frequent"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    X, X_test, y, y_test = train_test_split(
        frame, y, test_size=0.25, random_state=test_seed, stratify=y if is_classes else None
    )
    columns = make_column_transformer((names, text), (numbers, frame.columns.difference(text)))
    X, X_test = (
        part.astype(np.float32) for part in (columns.fit_transform(X), columns.transform(X_test))
    )
    if is_classes:
        classes, y = np.unique(y, return_inverse=True)
        y_test = np.searchsorted(classes, y_test)
    else:
        y, y_test = (((part - y.mean()) / y.std()).astype(np.float32) for part in (y, y_test))
    kind = StratifiedKFold if is_classes else KFold
    folds = list(kind(5, shuffle=True, random_state=seed).split(X, y))
    return Task(X, y, X_test, y_test, folds, is_classes)


def loss_of(task, *estimators):
    """Return what the average of fitted estimators loses on the test."""
    if task.is_classes:
        mean = np.mean([one.predict_proba(task.X_test) for one in estimators], axis=0)
        return float(log_loss(task.y_test, mean, labels=np.unique(task.y)))
    mean = np.mean([one.predict(task.X_test) for one in estimators], axis=0)
    return float(root_mean_squared_error(task.y_test, mean))


def judged(name, task, params, seed):
    """Return what networks under some seeds lose: the first, their mean, their average."""
    networks = [refitted(name, task, params, seed + 1000 * i) for i in range(N_AVERAGED)]
    each = [loss_of(task, one) for one in networks]
    return {"losses": each[0], "means": np.mean(each), "averages": loss_of(task, *networks)}


def run(folder, table, seed, name, seconds):
    """Run one contestant; return a dict with its losses at each twentieth."""
    task = read_task(folder, table, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(TimeIsOver):  # whatever is imported and compiled once
            CONTESTANTS[name](task, seed, Clock(0.5))
        clock = Clock(seconds)
        started = time.perf_counter()
        with suppress(TimeIsOver):
            CONTESTANTS[name](task, seed, clock)
        wall = time.perf_counter() - started
        bests = [clock.best(moment) for moment in MOMENTS * seconds]
        known = {repr(best): best for best in bests}
        known = {key: judged(name, task, best, seed) for key, best in known.items()}
    return {
        "table": table,
        "seed": seed,
        "contestant": name,
        "seconds": seconds,
        **{of: [known[repr(best)][of] for best in bests] for of in JUDGED},
        "at": clock.improvements(),
        "cv_loss": min((loss for _, loss, _ in clock.points), default=None),
        "n_candidates": len(clock.points),
        "wall": round(wall, 1),
    }


def complete(runs, names):
    """Return the runs of the tables and seeds that all these contestants have run."""
    done = {(one["table"], one["seed"], one["contestant"]) for one in runs}
    return [one for one in runs if all((one["table"], one["seed"], n) in done for n in names)]


def regrets(runs, of="losses"):
    """Return normalised regret over time by contestant: arrays (n_tables_and_seeds, 20)."""
    found = {}
    for place in sorted({(one["table"], one["seed"]) for one in runs}):
        mine = [one for one in runs if (one["table"], one["seed"]) == place]
        default = next(one[of][-1] for one in mine if one["contestant"] == "default")
        networks = [one for one in mine if one["contestant"] not in BASELINES]
        best = min(min(one[of]) for one in networks)
        unit = max(default - best, 0.02 * default)
        for one in mine:
            if one["contestant"] != "default":
                regret = (np.array(one[of]) - best) / unit
                found.setdefault(one["contestant"], []).append(regret)
    return {name: np.array(rows) for name, rows in found.items()}


def table_of(runs):
    """Return the results as lines of Markdown."""
    curves = {of: regrets(runs, of) for of in JUDGED}
    order = sorted(curves["losses"], key=lambda name: curves["losses"][name].mean())
    lines = []
    for of in ("losses", "means"):
        lines += [*regret_table(runs, curves[of], JUDGED[of]), ""]
    lines += times_table(curves, runs)
    for of in JUDGED:
        lines += ["", *losses_table(runs, order, of)]
    return lines


def regret_table(runs, curves, what):
    """Return the regret over time of what is judged, the best contestant first."""
    order = sorted(curves, key=lambda name: curves[name].mean())
    n_places = max(map(len, curves.values()))
    finals = {name: rows[:, -1] for name, rows in curves.items()}
    whole = [name for name in order if len(finals[name]) == n_places and name not in BASELINES]
    winners = np.argmin([finals[name] for name in whole], axis=0)
    at_shares = [int(np.argmin(abs(MOMENTS - share))) for share in (0.1, 0.3, 0.5)]
    lines = [
        f"| {what}: regret | at 10% | 30% | 50% | at the end | median | mean over time | wins "
        "| candidates |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in order:
        rows = curves[name]
        at = " | ".join(f"{rows[:, i].mean():.2f}" for i in at_shares)
        error = f" ± {rows[:, -1].std(ddof=1) / len(rows) ** 0.5:.2f}" if len(rows) > 1 else ""
        wins = f"{int((winners == whole.index(name)).sum())}" if name in whole else "-"
        n = np.mean([one["n_candidates"] for one in runs if one["contestant"] == name])
        end = f"{rows[:, -1].mean():.2f}{error} | {np.median(rows[:, -1]):.2f}"
        lines.append(f"| {name} | {at} | {end} | {rows.mean():.2f} | {wins} | {n:.0f} |")
    return lines


def is_ours(name):
    return name.startswith(("bayes", "hyperband"))


def times_table(curves, runs):
    """Return when each search of this package had what a peer has when time is over.

    That is the first moment from which on its test loss is at most the peer's last one, as a share
    of the time: the mean over tables and seeds; 1 if it never is. In the last row for each peer
    the losses are those over the folds, which a contestant sees.
    """
    names = list(curves["losses"])
    ours = [name for name in names if is_ours(name)]
    peers = [name for name in names if not is_ours(name) and name not in BASELINES]
    lines = [
        "| share of the time until the last loss of ... | " + " | ".join(ours) + " |",
        "| --- |" + " ---: |" * len(ours),
    ]
    for peer in peers:
        rows = {}
        for of in ("losses", "means"):
            of_peer = curves[of][peer][:, -1]
            rows[JUDGED[of]] = [
                [reached(*pair) for pair in zip(curves[of][name], of_peer, strict=True)]
                for name in ours
            ]
        rows["over the folds"] = [reached_on_folds(runs, name, peer) for name in ours]
        for what, shares in rows.items():
            cells = [f"{np.mean(of):.2f} ({min(of):.2f} to {max(of):.2f})" for of in shares]
            lines.append(f"| {peer}, {what} | {' | '.join(cells)} |")
    return lines


def reached_on_folds(runs, name, peer):
    """Return when a contestant has a peer's last loss over the folds, as shares of the time."""
    of_peer = {(one["table"], one["seed"]): one for one in runs if one["contestant"] == peer}
    shares = []
    for one in runs:
        if one["contestant"] == name:
            last = of_peer[one["table"], one["seed"]]["cv_loss"]
            moments = [at for at, loss in one["at"] if last is None or loss <= last]
            shares.append(min([*moments, one["seconds"]]) / one["seconds"])
    return shares


def reached(curve, regret):
    """Return the first moment from which on the regret is at most this."""
    n_worse = int(np.max(np.flatnonzero(curve > regret), initial=-1)) + 1
    return MOMENTS[min(n_worse, len(MOMENTS) - 1)]


def losses_table(runs, order, of):
    """Return the mean test loss at the end, by table."""
    tables = list(dict.fromkeys(one["table"] for one in runs))
    lines = [
        f"| test loss at the end, {JUDGED[of]} | " + " | ".join(tables) + " |",
        "| --- |" + " ---: |" * len(tables),
    ]
    for name in [*order, "default"]:
        cells = []
        for table in tables:
            here = [one for one in runs if (one["table"], one["contestant"]) == (table, name)]
            cells.append(f"{np.mean([one[of][-1] for one in here]):.4f}" if here else "-")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def draw(runs, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves = regrets(runs)
    seconds = runs[0]["seconds"]
    figure, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
    colours = plt.get_cmap("tab10")
    for i, name in enumerate(sorted(curves, key=lambda name: curves[name].mean())):
        if name in BASELINES:
            continue
        ours = "-" if is_ours(name) else "--"
        mean = np.minimum(curves[name], WORST_DRAWN).mean(axis=0)
        ax.plot(MOMENTS * seconds, mean, ours, color=colours(i % 10), label=name)
    ax.set(
        xlabel="processor seconds",
        ylabel=f"mean test regret, each at most {WORST_DRAWN} (defaults: 1)",
        ylim=(-0.05, 1.2),
        title="Solid lines: this package",
    )
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=100)


def written(page, runs, args, command, picture):
    """Return the text of a page with these results, in the place of those that it had of them.

    What is between the lines of comments is from here, the rest is not touched. A block is that of
    the seconds and the contestants; one that the page has not yet goes to its end.
    """
    tables = ", ".join(dict.fromkeys(one["table"] for one in runs))
    seeds = sorted({one["seed"] for one in runs})
    name = f"{args.seconds:g} s: {' '.join(args.only)}"
    begin, end = f"<!-- results, {name} -->", "<!-- end of results -->"
    block = "\n".join(
        [
            begin,
            "```",
            command,
            "```",
            "",
            f"Tables: {tables}. Seeds: {', '.join(map(str, seeds))}. {args.seconds:g} processor "
            f"seconds for each run, up to {EPOCHS} epochs a fit. ± is the standard error over "
            "tables and seeds.",
            "",
            *table_of(runs),
            "",
            f"![Regret over time]({picture})",
            "",
            end,
        ]
    )
    head, is_there, rest = page.partition(begin)
    if not is_there:
        return f"{page.rstrip()}\n\n{block}\n".lstrip()
    return head + block + rest.partition(end)[2]


def installed(names, *, asked):
    """Return the contestants whose packages are there; exit if one that is asked for is not."""
    missing = [name for name in names if name in NEEDS and find_spec(NEEDS[name]) is None]
    if missing:
        packages = ", ".join(dict.fromkeys(NEEDS[name] for name in missing))
        said = f"{', '.join(missing)}: not installed ({packages})"
        if asked:
            raise SystemExit(f"{said}; install them, or leave them out of --only")
        print(f"{said}; left out")
    return [name for name in names if name not in missing]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=DATA)
    parser.add_argument("--tables", nargs="+", help="names of files without their ending")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS)
    parser.add_argument("--results", type=Path, nargs="+", default=[Path("race.jsonl")])
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="wall seconds")
    parser.add_argument("--write", type=Path, help="the page that gets the results")
    parser.add_argument("--picture", default="", help="end of the name of its picture")
    args = parser.parse_args()
    asked = args.only is not None
    args.only = installed(args.only or list(CONTESTANTS), asked=asked)
    if not args.folder.exists():
        raise SystemExit(f"tables must be in {args.folder}, but there is no such folder")
    tables = args.tables
    if tables is None:
        names = sorted(path.name.split(".")[0] for path in args.folder.glob("*.csv*"))
        tables = TABLES if args.folder.resolve() == DATA.resolve() else names
    torch.set_num_threads(1)
    start = time.monotonic()
    runs = []
    for path in args.results:
        if path.exists():
            runs += [json.loads(line) for line in path.read_text().splitlines()]
    places = {(one["table"], one["seed"], one["contestant"], one["seconds"]): one for one in runs}
    runs = list(places.values())  # the default parameters may be in several files
    runs = [one for one in runs if one["seconds"] == args.seconds and one["table"] in tables]
    done = {(one["table"], one["seed"], one["contestant"]) for one in runs}
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    for seed in seeds:
        for table in tables:
            for name in ["default", *args.only]:
                if (table, seed, name) in done or time.monotonic() - start > args.stop_after:
                    continue
                if name == "default":
                    task = read_task(args.folder, table, seed)
                    found = {"table": table, "seed": seed, "contestant": name}
                    loss = judged("bayes", task, None, seed)
                    found |= {of: [loss[of]] * len(MOMENTS) for of in JUDGED}
                    found |= {"seconds": args.seconds, "n_candidates": 0}
                else:
                    found = run(args.folder, table, seed, name, args.seconds)
                runs.append(found)
                with open(args.results[0], "a") as file:
                    file.write(json.dumps(found) + "\n")
                print(table, seed, name, f"{found['losses'][-1]:.4f}", flush=True)
    runs = [one for one in runs if one["contestant"] in ["default", *args.only]]
    runs = [one for one in runs if one["seed"] in seeds]
    runs = complete(runs, set(args.only) - BASELINES)
    print("\n".join(table_of(runs)))
    if args.write:
        command = f"python benchmarks/race.py --seconds {args.seconds:g} --seeds {args.seeds}"
        if args.first_seed:
            command += f" --first-seed {args.first_seed}"
        if args.tables:
            command += f" --tables {' '.join(tables)}"
        if len(args.only) < len(CONTESTANTS):
            command += f" --only {' '.join(args.only)}"
        command += f" --write {args.write}"
        if args.picture:
            command += f" --picture {args.picture}"
        page = args.write.read_text() if args.write.exists() else ""
        picture = args.write.with_name(f"{args.write.stem}{args.picture}.png")
        args.write.write_text(written(page, runs, args, command, picture.name))
        draw(runs, picture)


if __name__ == "__main__":
    main()
