"""
Quickstart: the best network for handwritten digits
===================================================

A pipeline of a scaler and a torch network is searched with Hyperband over six hyperparameters, as
if it were any other scikit-learn search. Run it with ``make quickstart``.
"""

import pandas as pd
from scipy.stats import loguniform, uniform
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import HalvingHyperbandSearchCV, TorchClassifier, log_randint


def main():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=0
    )

    model = Pipeline([("scale", StandardScaler()), ("net", TorchClassifier(batch_size=64))])
    search = HalvingHyperbandSearchCV(
        model,
        {
            "net__lr": loguniform(1e-4, 1e-1),
            "net__optimizer__weight_decay": loguniform(1e-6, 1e-1),
            "net__module__n_units": log_randint(16, 257),
            "net__module__n_layers": [1, 2, 3],
            "net__module__activation": ["relu", "tanh", "gelu"],
            "net__module__dropout": uniform(0, 0.6),
        },
        resource="net__max_epochs",
        min_resources=2,
        max_resources=54,
        cv=3,
        n_jobs=2,
        random_state=0,
    )
    search.set_callbacks(ProgressBar())
    search.fit(X_train, y_train)

    results = pd.DataFrame(search.cv_results_)
    columns = ["mean_test_score", "std_test_score", "n_resources", "bracket", "candidate"]
    columns += [f"param_{name}" for name in search.param_distributions]
    best = results.sort_values(["n_resources", "mean_test_score"], ascending=False).head(10)
    best = best[columns].rename(columns=lambda name: name.split("__")[-1])
    print("\nThe ten best of the candidates that were trained longest")
    print(best.to_string(index=False, float_format="{:.4g}".format))

    print("\nBest parameters")
    for name, value in search.best_params_.items():
        print(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")

    untuned = model.set_params(net__random_state=0).fit(X_train, y_train)
    print(f"\nAccuracy on {len(y_test)} held-out images")
    print(f"  default  {untuned.score(X_test, y_test):.4f}")
    print(f"  searched {search.score(X_test, y_test):.4f}")

    plot(results)


def plot(results):
    """Draw every candidate's score against epochs, rung by rung."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    for _, rungs in results.groupby("candidate"):
        color = f"C{rungs['bracket'].iloc[0]}"
        ax.plot(rungs["n_resources"], rungs["mean_test_score"], "o-", color=color, ms=3, lw=0.8)
    for bracket in results["bracket"].unique():
        ax.plot([], [], "o-", color=f"C{bracket}", label=f"bracket {bracket}")
    ax.set(
        xscale="log",
        xlabel="epochs",
        ylabel="accuracy, mean of 3 folds",
        title="Every candidate, rung by rung",
    )
    ax.set_xticks(levels := sorted(results["n_resources"].unique()), map(str, levels))
    ax.minorticks_off()
    ax.legend()
    figure.savefig("quickstart.png", dpi=120)
    print("\nThe picture is in quickstart.png")


if __name__ == "__main__":
    main()
