"""
Rungs: who was promoted, and do early ranks tell late ones?
===========================================================

Hyperband over the epochs of a linear classifier. The curves show who was dropped at which rung, the
rank correlations whether that was justified, the timeline what two workers did meanwhile. They also
read a journal while its search runs.
"""

import matplotlib
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

from skhpo import HalvingHyperbandSearchCV
from skhpo.inspection import RungDisplay, SearchCurvesDisplay, TimelineDisplay


def main():
    matplotlib.use("Agg")
    X, y = load_digits(return_X_y=True)
    search = HalvingHyperbandSearchCV(
        SGDClassifier(learning_rate="invscaling"),
        {"alpha": loguniform(1e-6, 1), "eta0": loguniform(1e-4, 1), "power_t": [0.1, 0.25, 0.5]},
        resource="max_iter",
        max_resources=27,
        cv=3,
        n_jobs=2,
        random_state=0,
    ).fit(X / 16, y)
    SearchCurvesDisplay.from_search(search).figure_.savefig("curves.png", dpi=100)
    display = RungDisplay.from_search(search)
    display.figure_.savefig("rungs.png", dpi=100)
    TimelineDisplay.from_search(search).figure_.savefig("timeline.png", dpi=100)
    print("The pictures are in curves.png, rungs.png and timeline.png")
    print(f"ranks after 1 and 3 epochs: {display.correlations[0, 1]:.2f}")


if __name__ == "__main__":
    main()
