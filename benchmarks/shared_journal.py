"""Eight processes that share a journal: what kills cost, and how busy they are.

*Kills*: eight processes work on one search of networks. Again and again one of them, chosen at
random, gets SIGKILL, and another one starts in its place. No fit that was in the journal may be
lost, none may be there twice, and all processes must end with the same results; where nothing
depends on timing with those of a search in one process.

*Utilisation*: fits sleep for 0.2 to 1 s, depending on the candidate (of Hyperband a fifth of that
per epoch), and their states are in checkpoint files, as those of networks, but in the row that says
otherwise. Eight processes that share a journal are compared with the same search, under the same
scheduler, with eight jobs in threads, which are the cheapest workers that there are: by their
*utilisation*, the seconds that the candidates need over eight times those of the search, because
asynchronous searches try other candidates. With ``--scale 0.2`` fits are shorter.

Run it with ``python benchmarks/shared_journal.py``; ``--runs 2 --seeds 1`` is a quick look.
"""

import argparse
import json
import multiprocessing
import os
import pickle
import random
import signal
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import torch
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from utilisation import SPLIT, Sleeper, X, y

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, SearchCV, TorchClassifier
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

fork = multiprocessing.get_context("fork")
N_PROCESSES = 8


def network_search(kind, **how):
    net = TorchClassifier(module__n_units=16, module__dropout=0.2, batch_size=16)
    model = make_pipeline(StandardScaler(), net)
    space = {"torchclassifier__lr": loguniform(1e-3, 1e-1)}
    how = {"cv": 2, "random_state": 0, "refit": False, **how}
    if kind.startswith("BayesSearchCV"):
        model.set_params(torchclassifier__max_epochs=5)
        return BayesSearchCV(model, space, n_iter=20, n_points=4, **how)
    name = "torchclassifier__max_epochs"
    return HalvingHyperbandSearchCV(model, space, resource=name, max_resources=27, **how)


KINDS = {
    "Hyperband": {},
    "Hyperband, asynchronous": {"asynchronous": True},
    "Hyperband, predictions and models kept": {"return_predictions": True, "keep_models": 2},
    "BayesSearchCV, rounds of four": {},
    "BayesSearchCV, asynchronous": {"asynchronous": True},
}


def table(search):
    results = search.cv_results_
    return {name: results[name] for name in results if not name.endswith("_time")}


def same(a, b):
    return list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)


def work(kind, journal, out):
    """Work on a search of networks to its end; write the table."""
    warnings.simplefilter("ignore")
    search = network_search(kind, journal=journal, shared=True, **KINDS[kind])
    search.fit(*load_iris(return_X_y=True))
    results = table(search)
    if search.return_predictions:
        results["out of fold"] = search.predictions_.out_of_fold(search.best_index_)
        results["models"] = np.array(search.models_.rows)
    out.write_bytes(pickle.dumps(results))
    os._exit(0)


def events_of(journal):
    lines = journal.read_bytes().split(b"\n")[1:-1] if journal.exists() else []
    return [json.loads(line) for line in lines]


def names(events):
    fits = [event for event in events if event["event"] == "fit"]
    return [(event["trial"], event["split"], event["repeat"]) for event in fits]


def killed_run(kind, folder, n_kills, between):
    """Work with eight processes, some of which are killed; return what came of it."""
    journal, started = folder / "run.jsonl", []

    def start():
        out = folder / f"{len(started)}.pickle"
        process = fork.Process(target=work, args=(kind, journal, out))
        process.start()
        started.append((process, out))

    for _ in range(N_PROCESSES):
        start()
    n_killed, there = 0, set()
    while n_killed < n_kills:
        time.sleep(random.uniform(0, between))
        alive = [process for process, _ in started if process.is_alive()]
        if len(alive) < N_PROCESSES:
            break
        victim = random.choice(alive)
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        n_killed += 1
        there.update(names(events_of(journal)))
        start()
    for process, _ in started:
        process.join()
    events = events_of(journal)
    fits = names(events)
    leased = [tuple(fit) for e in events if e["event"] == "lease" for fit in e["fits"]]
    tables = [pickle.loads(out.read_bytes()) for _, out in started if out.exists()]
    ended = sum(process.exitcode == 0 for process, _ in started)
    return {
        "killed": n_killed,
        "fits": len(fits),
        "lost": len(there - set(fits)),
        "twice": len(fits) - len(set(fits)),
        "begun again": len(leased) - len(set(leased)),
        "ended": ended,
        "wrong": len(started) - n_killed - ended,
        "differ": sum(not same(one, tables[0]) for one in tables),
        "left": len(list(folder.glob("*.workers"))),
        "table": tables[0],
    }


def kills(args):
    print(
        "| search | runs | killed | fits | lost | in the journal twice | begun again | processes "
        "that ended | by an error | with other results | like one process |"
    )
    print("| --- |" + " ---: |" * 10)
    counted = ["killed", "fits", "lost", "twice", "begun again", "ended", "wrong", "differ"]
    for kind, how in KINDS.items():
        if args.only not in kind:
            continue
        alone = network_search(kind, **how).fit(*load_iris(return_X_y=True))
        total, equal = dict.fromkeys(counted, 0), 0
        for _ in range(args.runs):
            with tempfile.TemporaryDirectory() as folder:
                run = killed_run(kind, Path(folder), args.kills, args.between)
            total = {name: total[name] + run[name] for name in counted}
            equal += same({name: run["table"][name] for name in table(alone)}, table(alone))
        equal = "" if how.get("asynchronous") else f"{equal}/{args.runs}"
        numbers = " | ".join(str(total[name]) for name in counted)
        print(f"| {kind} | {args.runs} | {numbers} | {equal} |", flush=True)


class Scored(Sleeper):
    def score(self, X, y):
        return -((self.quality - 0.3) ** 2)


class Saved(Scored):
    """Is continued from checkpoint files, as a network."""

    def save_checkpoint(self, file):
        file.write(b"trained")

    def load_checkpoint(self, file):
        assert file.read() == b"trained"
        self.classes_ = np.array([0, 1])
        return self


def at_random(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), 100)


def sleeping_searches(scale, seed):
    space = {"seconds": uniform(0.2, 0.8), "quality": uniform(0, 1)}
    common = {"param_distributions": space, "cv": SPLIT, "refit": False, "random_state": seed}
    own = partial(SearchCV, Saved(scale=scale), scheduler=at_random, **common)
    bayes = partial(BayesSearchCV, Saved(scale=scale), n_iter=64, n_points=8, **common)
    bands = [
        partial(HalvingHyperbandSearchCV, sleeper(scale=scale / 5), max_resources=27, **common)
        for sleeper in (Saved, Scored)
    ]
    return {
        "SearchCV": own,
        "SearchCV, asynchronous": partial(own, asynchronous=True),
        "Hyperband": bands[0],
        "Hyperband, asynchronous": partial(bands[0], asynchronous=True),
        "Hyperband with a Gaussian process": partial(bands[0], sampler="bayes"),
        "Hyperband without checkpoint files": bands[1],
        "BayesSearchCV, rounds of eight": bayes,
        "BayesSearchCV, asynchronous": partial(bayes, asynchronous=True),
    }


def sleep_together(make, journal, barrier, ended):
    barrier.wait()
    search = make(journal=journal, shared=True).fit(X, y)
    ended.put((time.monotonic(), pickle.dumps(table(search))))
    ended.close()
    ended.join_thread()
    os._exit(0)


def together(make):
    """Return seconds, those while fits ran, and the table of results, of eight processes."""
    barrier, ended = fork.Barrier(N_PROCESSES + 1), fork.Queue()
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "run.jsonl"
        args = (make, journal, barrier, ended)
        processes = [fork.Process(target=sleep_together, args=args) for _ in range(N_PROCESSES)]
        for process in processes:
            process.start()
        barrier.wait()
        start = time.monotonic()
        ends = [ended.get() for _ in processes]
        for process in processes:
            process.join()
        seconds = max(end for end, _ in ends) - start
        return seconds, span_of(journal), pickle.loads(ends[0][1])


def in_threads(make):
    """Return the same of a search with eight jobs."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "run.jsonl"
        search = make(n_jobs=N_PROCESSES, journal=journal)
        start = time.monotonic()
        with joblib.parallel_config("threading"):
            search.fit(X, y)
        return time.monotonic() - start, span_of(journal), table(search)


def span_of(journal):
    """Seconds from the start of the first fit to the end of the last one."""
    fits = [event for event in events_of(journal) if event["event"] == "fit"]
    ends = [fit["start"] + fit["fit_time"] + fit["score_time"] for fit in fits]
    return max(ends) - min(fit["start"] for fit in fits)


def needed(results):
    """Return the seconds that the candidates of a table need, up to the scale."""
    spent = {}
    resources = results.get("n_resources", np.ones(len(results["params"])))
    for params, resource in zip(results["params"], resources, strict=True):
        seconds = params["seconds"]
        spent[seconds] = max(spent.get(seconds, 0.0), seconds * resource)
    return sum(spent.values())


def utilisation(args):
    print(
        "| search | 8 jobs, s | 8 processes, s | utilisation, of that with jobs | each "
        "| while fits run | each | same results |"
    )
    print("| --- | ---: | ---: | ---: | --- | ---: | --- | ---: |")
    in_threads(sleeping_searches(0.0, 0)["BayesSearchCV, asynchronous"])  # imports
    for name in sleeping_searches(args.scale, 0):
        if args.only not in name:
            continue
        both = []
        for seed in range(args.seeds):
            make = sleeping_searches(args.scale, seed)[name]
            both.append((in_threads(make), together(make)))
        jobs, processes = (np.median([one[0] for one in side]) for side in zip(*both, strict=True))
        shown = []
        for place in (0, 1):
            used = [[needed(one[2]) / one[place] for one in pair] for pair in both]
            ratios = [shared / alone for alone, shared in used]
            each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            shown.append(f"{np.median(ratios):.2f} | {each}")
        equal = sum(same(one[2], other[2]) for one, other in both)
        alike = "" if "asynchronous" in name else f"{equal}/{len(both)}"
        shown = " | ".join(shown)
        print(f"| {name} | {jobs:.2f} | {processes:.2f} | {shown} | {alike} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="of each kind of search")
    parser.add_argument("--kills", type=int, default=12, help="in a run")
    parser.add_argument("--between", type=float, default=1.0, help="most seconds between two")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the seconds slept")
    parser.add_argument("--only", default="", help="part of the names of the searches")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if args.seeds:
        utilisation(args)
        print()
    if args.runs:
        kills(args)


if __name__ == "__main__":
    main()
