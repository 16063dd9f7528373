"""When training may stop: tried out on the checks of fits that went on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import BayesSearchCV, TorchClassifier
from skhpo.inspection import SearchRecord, patience_advice

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)
NET = TorchClassifier(max_epochs=6, validation_fraction=0.3, random_state=0, device="cpu")


def recorded(curves, name="valid_loss"):
    """Return a record of a search with a learning curve for each candidate."""
    shape = (len(curves), 1, 1)
    return SearchRecord(
        distributions={"a": list(range(len(curves)))},
        params=[{"a": i} for i in range(len(curves))],
        scores={"score": np.zeros(shape)},
        has_fit=np.ones(shape, dtype=bool),
        fit_seconds=np.zeros(shape),
        score_seconds=np.zeros(shape),
        candidates=np.arange(len(curves)),
        curves=[{name: {(0, 0): np.array(curve, dtype=float)}} for curve in curves],
    )


def trained(curve, min_epochs, patience):
    """Return after how many epochs training stops, and the best epoch until then."""
    best, best_epoch = np.inf, 0
    for epoch, loss in enumerate(curve, start=1):
        if loss < best:
            best, best_epoch = loss, epoch
        if epoch - best_epoch >= patience and epoch >= min_epochs:
            break
    return epoch, best_epoch


losses = st.lists(st.integers(0, 9), min_size=12, max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.lists(losses, min_size=1, max_size=8), st.sampled_from([0.5, 0.8, 1.0]))
def test_no_other_pair_keeps_as_many_and_saves_more(curves, kept):
    found = patience_advice(recorded(curves), kept=kept)
    best = [int(np.argmin(curve)) + 1 for curve in curves]

    def tried(min_epochs, patience):
        ends = [trained(curve, min_epochs, patience) for curve in curves]
        hits = [end[1] == epoch for end, epoch in zip(ends, best, strict=True)]
        return np.mean(hits), sum(end[0] for end in ends)

    share, epochs = tried(found.min_epochs, found.patience)
    assert share >= kept
    assert share == pytest.approx(found.kept)
    assert epochs == found.fits["stop_epoch"].sum()
    assert found.saved == pytest.approx(1 - epochs / 12 / len(curves))
    for patience in range(1, 13):
        for min_epochs in range(1, 13):
            other, cost = tried(min_epochs, patience)
            assert other < kept or cost >= epochs
    assert found.fits["best_epoch"].tolist() == best
    assert found.n_improving == sum(epoch == 12 for epoch in best)


def test_one_fit_in_twenty_may_be_lost():
    early = [[5, 1, *[2] * 18]] * 19
    late = [[5, 1, *[2] * 17, 0]]
    assert patience_advice(recorded(early + late)).fits["stop_epoch"].max() == 3
    assert patience_advice(recorded(early + late), kept=1.0).kept == 1
    assert patience_advice(recorded(early + late), kept=1.0).saved == 0


def test_scores_are_better_if_larger_and_what_is_not_finite_is_no_best():
    curve = [0.1, 0.9, np.nan, 0.5, 0.4]
    found = patience_advice(recorded([curve], "valid_accuracy"))
    assert found.fits["best_epoch"].tolist() == [2]
    assert patience_advice(recorded([curve])).fits["best_epoch"].tolist() == [1]
    with pytest.raises(ValueError, match="no fit has one"):
        patience_advice(recorded([[np.nan] * 3]))


def test_the_advice_is_what_training_does_with_it():
    net = NET.set_params(max_epochs=25, lr=0.3, check_every=2)
    found = patience_advice(make_pipeline(StandardScaler(), net).fit(X, y))
    fitted = make_pipeline(StandardScaler(), net).fit(X, y)[-1]
    again = make_pipeline(
        StandardScaler(), net.set_params(min_epochs=found.min_epochs, patience=found.patience)
    ).fit(X, y)[-1]
    assert len(again.history) == found.fits["stop_epoch"][0] < 25
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_networks_that_a_search_has_kept():
    net = TorchClassifier(max_epochs=5, validation_fraction=0.3, device="cpu")
    search = BayesSearchCV(
        *(net, {"lr": [1e-2, 1e-1]}),
        n_iter=2,
        cv=2,
        keep_models=2,
        random_state=0,
        refit_epochs="same",  # networks with checks
    )
    found = patience_advice(search.fit(X, y))
    assert found.n_fits == 4
    assert found.monitor == "valid_loss"
    assert patience_advice(search.top_estimators(2)).n_fits == 2
    search.set_params(keep_models=0).fit(X, y)
    with pytest.raises(ValueError, match="set keep_models"):
        patience_advice(search)


def test_what_has_no_checks():
    with pytest.raises(ValueError, match="set validation_fraction"):
        patience_advice(TorchClassifier(max_epochs=1, device="cpu").fit(X, y))
    with pytest.raises(NotFittedError):
        patience_advice(TorchClassifier())
    with pytest.raises(ValueError, match="set validation_fraction"):
        patience_advice(LogisticRegression(max_iter=1000).fit(X, y))
    with pytest.raises(ValueError, match="keep_models"):
        patience_advice(GridSearchCV(LogisticRegression(max_iter=1000), {"C": [1]}).fit(X, y))
    with pytest.raises(TypeError, match="reads fitted networks"):
        patience_advice(3)
    with pytest.raises(ValueError, match="monitor must name one of valid_loss"):
        patience_advice(recorded([[1, 2]]), "valid_los")
