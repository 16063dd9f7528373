"""End to end: a search, TensorBoard, a real browser.

With ``SKHPO_PICTURE=docs/images/hparams.png`` the picture of the documentation is made anew.
"""

import os

import numpy as np
import pytest
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_digits

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

from browser import browser, missing, tensorboard, wait_for

from skhpo import HalvingHyperbandSearchCV, TensorBoardLogger, TorchClassifier, log_randint


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_the_trials_are_in_the_dashboards_table(tmp_path):
    X, y = load_digits(return_X_y=True)
    search = HalvingHyperbandSearchCV(
        TorchClassifier(batch_size=64),
        {
            "lr": loguniform(1e-3, 1e-1),
            "module__n_units": log_randint(8, 65),
            "module__activation": ["relu", "tanh"],
            "module__dropout": uniform(0, 0.5),
        },
        max_resources=9,
        cv=2,
        random_state=0,
        callbacks=[TensorBoardLogger(tmp_path / "log")],
    )
    search.fit((X / 16).astype(np.float32), y)
    table = search.cv_results_
    trials = [f"trial-{i:04}-c{candidate:04}" for i, candidate in enumerate(table["candidate"])]
    with tensorboard(tmp_path / "log") as address, browser(tmp_path, 1760, 760) as page:
        page.open(f"{address}/#hparams")
        text = wait_for(lambda: trials[-1] in page.text() and page.text(), "table of the trials")
        if path := os.environ.get("SKHPO_PICTURE"):
            with open(path, "wb") as file:
                file.write(page.picture())
    assert f"Number of matching session groups: {len(trials)}" in text
    names = [*sorted(search.param_distributions), "max_epochs", "mean_test_score"]
    assert set(names) <= set(text)
    shown = {trial: text[text.index(trial) :][:8] for trial in trials}
    for trial, score in zip(trials, table["mean_test_score"], strict=True):
        assert any(abs(float(cell) - score) < 1e-4 for cell in shown[trial] if _is_number(cell))


def _is_number(cell):
    return cell.replace(".", "", 1).isdigit()
