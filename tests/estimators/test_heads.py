"""A dict of targets: several heads, with a criterion of the user's own."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedKFold
from torch import nn
from torch.utils.data import Dataset

from skhpo import BayesSearchCV, SelfTuningRegressor, TorchClassifier, TorchRegressor

RNG = np.random.default_rng(0)
N = 80
X = RNG.normal(size=(N, 5)).astype("float32")
Y = {
    "age": (X[:, :1] + 0.1 * RNG.normal(size=(N, 1))).astype("float32"),
    "kind": (X[:, 1] > 0).astype(int) + (X[:, 1] > 0.7),
}


class TwoHeads(nn.Module):
    def __init__(self, in_features):
        super().__init__()
        self.body, self.age, self.kind = nn.Linear(in_features, 8), nn.Linear(8, 1), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.body(x))
        return {"age": self.age(x), "kind": self.kind(x)}


class Both(nn.Module):
    def __init__(self, share=0.5):
        super().__init__()
        self.share = share

    def forward(self, output, target):
        of_age = nn.functional.mse_loss(output["age"], target["age"])
        return of_age + self.share * nn.functional.cross_entropy(output["kind"], target["kind"])


class Pairs(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        return X[i], {name: value[i] for name, value in Y.items()}


class Inputs(Pairs):
    def __getitem__(self, i):
        return X[i]


def heads(**params):
    kwargs = {"max_epochs": 12, "lr": 0.02, "random_state": 0, **params}
    return TorchRegressor(TwoHeads, criterion=Both, **kwargs)


def both_right(net, X, y):
    """Score: the share of kinds that are right, less the error of the age."""
    predicted = net.predict(X)
    assert predicted["age"].shape == y["age"].shape
    right = (predicted["kind"].argmax(1) == y["kind"]).mean()
    return right - np.abs(predicted["age"] - y["age"]).mean()


@pytest.fixture(scope="module")
def fitted():
    return heads().fit(X, Y)


def test_both_heads_learn(fitted):
    assert both_right(fitted, X, Y) > 0.5
    output = fitted.predict(X)
    loss = Both()(*({k: torch.as_tensor(v) for k, v in one.items()} for one in (output, Y)))
    assert fitted.score(X, Y) == pytest.approx(-loss.item(), abs=0.05)  # by batches


@pytest.mark.parametrize("data", [(Pairs(),), (Inputs(), Y)], ids=["pairs", "inputs"])
def test_a_dataset_of_them_is_the_same(fitted, data):
    net = heads().fit(*data)
    found, expected = net.predict(Pairs()), fitted.predict(X)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)
    assert net.score(*data) == pytest.approx(fitted.score(X, Y), rel=1e-4)


def test_they_are_checked_held_out_and_continued(tmp_path):
    net = heads(validation_fraction=0.2, max_epochs=3).fit(X, Y)
    assert len(net.history_[:, "valid_loss"]) == 3
    net.save_checkpoint(tmp_path / "net.pt")
    loaded = heads().load_checkpoint(tmp_path / "net.pt")
    np.testing.assert_array_equal(loaded.predict(X)["age"], net.predict(X)["age"])
    assert loaded.partial_fit(X, Y).n_iter_ == 15
    net.set_params(validation_fraction=None)
    net.fit(X, Y, validation_data=(X[:20], {name: value[:20] for name, value in Y.items()}))
    assert np.isfinite(net.history_[-1]["valid_loss"])


def test_a_search_divides_them_by_rows():
    def search(scoring, **params):
        space = {"lr": [0.001, 0.03], "criterion__share": [0.5]}
        params = {"n_iter": 2, "cv": 2, "random_state": 0, **params}
        return BayesSearchCV(heads(max_epochs=4), space, scoring=scoring, **params)

    found = search(both_right).fit(X, Y)
    assert found.best_params_["lr"] == 0.03
    assert found.predict(X)["kind"].shape == (N, 3)
    by_loss = search(None, refit=False).fit(X, Y).cv_results_["mean_test_score"]
    assert (by_loss < 0).all()
    of_dataset = search(None, refit=False).fit(Pairs()).cv_results_["mean_test_score"]
    np.testing.assert_allclose(of_dataset, by_loss, rtol=1e-4)


class Single(TwoHeads):
    def forward(self, x):
        return super().forward(x)["age"]


@pytest.mark.parametrize(
    ("params", "y", "message"),
    [
        ({"criterion": "mse"}, Y, "a dict of targets needs a criterion of your own"),
        ({"module": Single}, Y, "must return a dict or a tuple of tensors, but returns a Tensor"),
        ({"scale_target": "standard"}, Y, "scale_target must be None where y is a dict"),
        ({"monitor": "r2"}, Y, "monitor must be 'valid_loss' where y is a dict"),
        ({}, {**Y, "kind": Y["kind"][:7]}, "must have the same number of rows"),
        ({}, {"age": Y["age"] * np.nan, "kind": Y["kind"]}, r"y\['age'\] contains NaN"),
    ],
    ids=lambda value: "",
)
def test_what_does_not_fit_is_told_before_training(params, y, message, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "backward", lambda *args: pytest.fail("trained"))
    with pytest.raises(ValueError, match=message):
        heads().set_params(**params).fit(X, y)


def test_splits_by_a_head_are_passed_as_splits():
    search = BayesSearchCV(heads(max_epochs=1), {"lr": [0.01]}, n_iter=1, cv=StratifiedKFold(2))
    with pytest.raises(ValueError, match=r"cv=list\(StratifiedKFold\(5\).split\(rows, y\['kind'\]"):
        search.fit(X, Y)
    search.set_params(cv=list(StratifiedKFold(2).split(np.zeros(N), Y["kind"])), refit=False)
    assert np.isfinite(search.fit(X, Y).cv_results_["split1_test_score"]).all()


def test_other_estimators_take_no_dict_of_targets():
    searches = [BayesSearchCV(TorchClassifier(), {"lr": [0.1]}, n_iter=1), TorchClassifier()]
    for estimator in searches:
        for data in ((X, Y), (Pairs(),)):
            with pytest.raises(ValueError, match="for several heads use a TorchRegressor"):
                estimator.fit(*data)
    with pytest.raises(ValueError, match="a self-tuning network needs y as an array"):
        SelfTuningRegressor(TwoHeads, criterion=Both).fit(X, Y)


def test_later_targets_must_be_those_of_the_first_call(fitted):
    with pytest.raises(ValueError, match=r"of the shapes .*'kind': .*, as in the first call, but"):
        fitted.partial_fit(X, {"age": Y["age"]})


def test_targets_that_disagree_with_those_of_the_items():
    for other in ({**Y, "kind": 2 - Y["kind"]}, {"age": Y["age"]}, Y["age"]):
        with pytest.raises(ValueError, match="y must agree with the targets of the Dataset"):
            heads().fit(Pairs(), other)


def test_weights_of_a_score_are_used_or_refused(fitted):
    class Weighted(Both):
        reduction = "mean"

        def forward(self, output, target):
            losses = nn.functional.mse_loss(output["age"], target["age"], reduction="none")
            return losses[:, 0] if self.reduction == "none" else losses.mean()

    for data in ((X, Y), (Pairs(),)):
        with pytest.raises(ValueError, match="need a criterion with a `reduction`"):
            fitted.score(*data, sample_weight=np.ones(N))
    net = heads(max_epochs=1).set_params(criterion=Weighted).fit(X, Y)
    weight = np.arange(N)
    right = np.average((net.predict(X)["age"] - Y["age"])[:, 0] ** 2, weights=weight)
    for data in ((X, Y), (Pairs(),)):
        assert net.score(*data, sample_weight=weight) == pytest.approx(-right, rel=1e-4)
