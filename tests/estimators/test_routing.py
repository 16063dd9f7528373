"""Metadata of a fit reach the module and the splitter that ask for them, as in skorch."""

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.dataset import ValidSplit

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV
from skhpo.estimators import MLP, TorchClassifier, TorchRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3)).astype("float32")
Y = (X[:, 0] > 0).astype(int)
GROUPS = np.arange(80) // 5
seen = []


class Recording(MLP):
    def forward(self, x, **params):
        seen.append(params)
        return super().forward(x)


class Splitter(GroupKFold):
    def split(self, X, y=None, groups=None):
        seen.append(groups)
        return super().split(X, y, groups)


@pytest.fixture(autouse=True)
def _nothing_seen():
    seen.clear()


@pytest.fixture
def _routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("_routing")
@pytest.mark.parametrize("cls", [TorchClassifier, TorchRegressor])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_declared_names_reach_forward_alone(cls, method):
    net = cls(Recording, max_epochs=1, train_split=ValidSplit(2))
    net = clone(getattr(net, f"set_{method}_request")(foo=True, bar=True, sample_weight=True))
    getattr(net, method)(X, Y, foo=1, bar=2, sample_weight=np.ones(80))
    assert len(seen) > 2
    assert all(params == {"foo": 1, "bar": 2} for params in seen)
    seen.clear()
    with pytest.raises(TypeError, match="unexpected argument"):
        getattr(net, method)(X, Y, other=1)
    assert not seen


@pytest.mark.usefixtures("_routing")
def test_groups_reach_the_splitter_alone():
    # A plain MLP takes no groups.
    net = TorchClassifier(max_epochs=1, train_split=ValidSplit(Splitter(2)))
    net.fit(X, Y, groups=GROUPS)
    net.partial_fit(X, Y, groups=GROUPS)
    assert [groups is GROUPS for groups in seen] == [True, True]
    seen.clear()
    pipeline = make_pipeline(StandardScaler(), net)
    space = {"torchclassifier__lr": [0.1]}
    for search in (
        GridSearchCV(pipeline, space, cv=2),
        BayesSearchCV(pipeline, space, n_iter=1, cv=2),
    ):
        search.fit(X, Y, groups=GROUPS)
    sizes = [len(groups) for groups in seen]
    assert sizes[:3] == sizes[3:] == [40, 40, 80]


@pytest.mark.usefixtures("_routing")
def test_a_continued_fit_gets_what_is_declared_for_fit():
    net = TorchClassifier(Recording, max_epochs=1).set_fit_request(foo=True)
    search = HalvingHyperbandSearchCV(
        net, {"lr": [0.1, 0.01]}, min_resources=1, max_resources=2, factor=2, cv=2
    )
    search.fit(X, Y, foo=1)
    assert max(search.cv_results_["n_resources"]) == 2
    assert {"foo": 1} in seen


def test_without_routing_all_of_it_reaches_both():
    def split(dataset, y=None, **params):
        seen.append(params)
        return dataset, torch.utils.data.Subset(dataset, range(8))

    net = TorchClassifier(Recording, max_epochs=1, train_split=split)
    net.fit(X, Y, foo=1)
    assert len(seen) > 3
    assert all(params == {"foo": 1} for params in seen)
