"""
Quickstart: the best network for a table
========================================

How strong is concrete of a given mixture and age? A pipeline of a scaler and a torch network is
searched with Hyperband over six hyperparameters, as if it were any other scikit-learn search. A
Gaussian process proposes its candidates, but for the first, which is the network as it comes.
Networks of one shape are trained together. `RandomizedSearchCV` gets the same time for the same
space, and both cores. Run it with ``make quickstart``. Without ``../shared/data`` it takes
scikit-learn's digits, and predicts their lower half from the upper one.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import loguniform, uniform
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import RandomizedSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import HalvingHyperbandSearchCV, TorchRegressor

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "concrete.csv.gz"
SPACE = {
    "net__lr": loguniform(1e-4, 1e-1),
    "net__optimizer__weight_decay": loguniform(1e-6, 1),
    "net__module__n_units": [64, 128],
    "net__module__n_layers": [1, 2, 3],
    "net__module__dropout": uniform(0, 0.6),
    "net__module__input_dropout": uniform(0, 0.4),
}
EPOCHS = 81


def load_table():
    if DATA.exists():
        table = pd.read_csv(DATA)
        return table.drop(columns="target").to_numpy(), table["target"].to_numpy(), "MPa"
    pixels = load_digits().data[:800]
    return pixels[:, :32], pixels[:, 32:], "of 16 grey levels"


def main(seed=0):
    X, y, unit = load_table()
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=seed)
    model = Pipeline([("scale", StandardScaler()), ("net", TorchRegressor(lr_scheduler="cosine"))])

    search = HalvingHyperbandSearchCV(
        model,
        SPACE,
        resource="net__max_epochs",
        max_resources=EPOCHS,
        n_iterations=2,
        sampler="bayes",
        cv=3,
        scoring="neg_root_mean_squared_error",
        random_state=seed,
        verbose=1,
    )
    start = time.perf_counter()
    search.fit(X_train, y_train)
    seconds = time.perf_counter() - start
    results = pd.DataFrame(search.cv_results_)
    n_candidates = results["candidate"].nunique()
    print(f"\nHyperband: {n_candidates} candidates in {seconds:.0f} s. The best, and the first:")
    columns = ["mean_test_score", "n_resources", "bracket", *(f"param_{name}" for name in SPACE)]
    shown = pd.concat([results.nlargest(5, "mean_test_score"), results[results["candidate"] == 0]])
    shown = shown[columns].rename(columns=lambda name: name.split("__")[-1])
    print(shown.to_string(index=False, float_format="{:.4g}".format))

    print(f"\nRandom search for {seconds:.0f} s")
    n_random, random, random_error = random_search(model, X_train, y_train, seconds, seed)

    default = clone(model).set_params(net__random_state=seed).fit(X_train, y_train)
    print(f"\nError (RMSE) on {len(y_test)} held-out rows")
    for name, fitted in [
        ("the default", default),
        (f"random search, {n_random} candidates", random),
        (f"Hyperband, {n_candidates} candidates", search),
    ]:
        error = root_mean_squared_error(y_test, fitted.predict(X_test))
        print(f"  {name:32s}{error:6.2f} {unit}")
    plot(results, random_error, unit)


def random_search(model, X, y, seconds, seed):
    """Run scikit-learn's random search, two candidates at a time, until the time is over."""
    model = clone(model).set_params(net__max_epochs=EPOCHS)
    scores, candidates = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        search = RandomizedSearchCV(
            model,
            SPACE,
            n_iter=2,
            cv=3,
            scoring="neg_root_mean_squared_error",
            n_jobs=2,
            refit=False,
            random_state=1000 * seed + len(scores),
        ).fit(X, y)
        scores += search.cv_results_["mean_test_score"].tolist()
        candidates += search.cv_results_["params"]
    best = int(np.nanargmax(scores))
    model.set_params(**candidates[best], net__random_state=seed)
    return len(scores), model.fit(X, y), -scores[best]


def plot(results, random_error, unit):
    """Draw every candidate's error against epochs, rung by rung, where the differences are."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    errors = results.assign(error=-results["mean_test_score"])
    for _, rungs in errors[errors["candidate"] > 0].groupby("candidate"):
        color = f"C{rungs['bracket'].iloc[0]}"
        ax.plot(rungs["n_resources"], rungs["error"], "o-", color=color, ms=3, lw=0.8)
    for bracket in sorted(errors["bracket"].unique()):
        ax.plot([], [], "o-", color=f"C{bracket}", label=f"bracket {bracket}")
    own = errors.loc[errors["candidate"] == 0, "error"].iloc[-1]
    ax.axhline(own, color="k", ls=":", label="the default, trained as long")
    ax.axhline(random_error, color="k", ls="--", label="random search, same time")
    best = errors["error"].min()
    ax.set(
        xscale="log",
        ylim=(best - 0.2 * (own - best), own + 0.6 * (own - best)),
        xlabel="epochs",
        ylabel=f"RMSE ({unit}), mean of 3 folds",
        title="Every candidate, rung by rung",
    )
    ax.set_xticks(levels := sorted(results["n_resources"].unique()), map(str, levels))
    ax.minorticks_off()
    ax.legend(loc="upper right")
    figure.savefig("quickstart.png", dpi=120)
    print("\nThe picture is in quickstart.png")


if __name__ == "__main__":
    main()
