"""What users of skorch write to search over their data runs as written, and scores as arrays do."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset as SkorchDataset
from skorch.helper import SliceDataset, SliceDict
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from skhpo import SearchCV, TorchClassifier, TorchRegressor
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

RNG = np.random.default_rng(0)
N = 60
X = RNG.normal(size=(N, 4)).astype("float32")
X2 = RNG.normal(size=(N, 3)).astype("float32")
Y = (X[:, 0] + X2[:, 0] > 0).astype("int64")
SPACE = {"lr": [0.02, 0.2], "max_epochs": [2]}


def search(net, **kwargs):
    def whole_grid(space, random_state):
        return FullScheduler(GridSampler(space), n_candidates=space.size)

    kwargs = {"cv": 3, "scoring": "neg_log_loss", "refit": False, **kwargs}
    return SearchCV(net, SPACE, scheduler=whole_grid, random_state=0, **kwargs)


def scores(fitted):
    return fitted.cv_results_["mean_test_score"]


class MyDataset(Dataset):
    def __init__(self, X, y=Y):
        self.X, self.Y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, idx):
        return self.X[idx], self.Y[idx]


class TwoInputs(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, idx):
        return {"X": X[idx], "X2": X2[idx]}, Y[idx]


class MyModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense, self.dense2, self.output = nn.Linear(4, 5), nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, X, X2=None):
        X = self.dense(X) if X2 is None else self.dense(X) + self.dense2(X2)
        return self.output(torch.relu(X))


@pytest.fixture(scope="module")
def one_input():
    return scores(search(TorchClassifier(MyModule)).fit(X, Y))


@pytest.fixture(scope="module")
def two_inputs():
    return scores(search(TorchClassifier(MyModule)).fit({"X": X, "X2": X2}, Y))


@pytest.mark.parametrize(
    "data",
    [
        lambda ds: (ds,),
        lambda ds: (ds, Y),
        lambda ds: (ds, np.array([y for _, y in iter(ds)])),
        lambda ds: (SliceDataset(ds), Y),
        lambda ds: (SliceDataset(ds, idx=0), SliceDataset(ds, idx=1)),
        lambda ds: (SliceDataset(ds, idx=0), np.array(list(SliceDataset(ds, idx=1)))),
        lambda ds: (SkorchDataset(X, Y),),
        lambda ds: (torch.from_numpy(X), torch.from_numpy(Y)),
    ],
    ids=[
        "dataset",
        "with y",
        "y by hand",
        "slices",
        "both sliced",
        "y list",
        "skorch's",
        "tensors",
    ],
)
def test_a_dataset(one_input, data):
    X, *y = data(MyDataset(torch.from_numpy(globals()["X"])))
    fitted = search(TorchClassifier(MyModule), refit=True).fit(X, *y)
    np.testing.assert_allclose(scores(fitted), one_input, rtol=1e-4)
    assert fitted.predict(X).shape == (N,)


@pytest.mark.parametrize(
    "data",
    [
        (SliceDict(X=X, X2=X2), Y),
        ((X, X2), Y),
        ([torch.from_numpy(X), torch.from_numpy(X2)], torch.from_numpy(Y)),
        (TwoInputs(),),
        (SliceDataset(TwoInputs(), idx=0), Y),
    ],
    ids=["SliceDict", "tuple", "list", "dataset of dicts", "sliced dicts"],
)
def test_several_inputs(two_inputs, data):
    fitted = search(TorchClassifier(MyModule)).fit(*data)
    np.testing.assert_allclose(scores(fitted), two_inputs, rtol=1e-4)


def test_padding_by_a_collate_function_of_dicts():
    class Texts(Dataset):
        def __len__(self):
            return N

        def __getitem__(self, i):
            n = 2 + i % 4
            return {"x": torch.from_numpy(X[i]).repeat(n, 1), "n": n}, Y[i]

    def collate_pad(batch):
        inputs, y = zip(*batch, strict=True)
        x = pad_sequence([one["x"] for one in inputs], batch_first=True)
        return {"x": x, "n": torch.tensor([one["n"] for one in inputs])}, torch.tensor(y)

    class Mean(MyModule):
        def forward(self, x, n):
            return super().forward(x.sum(1) / n[:, None])

    padding = {f"iterator_{part}__collate_fn": collate_pad for part in ("train", "valid")}
    expected = scores(search(TorchClassifier(MyModule)).fit(X, Y))
    fitted = search(TorchClassifier(Mean, **padding)).fit(Texts())
    np.testing.assert_allclose(scores(fitted), expected, rtol=1e-4)


def test_several_targets_of_a_dataset():
    net = TorchRegressor(nn.Linear, module__in_features=4, module__out_features=3)
    kwargs = {"scoring": "r2"}
    expected = scores(search(net, **kwargs).fit(X, X2))
    np.testing.assert_allclose(scores(search(net, **kwargs).fit(MyDataset(X, X2))), expected, 1e-4)


def test_nets_of_skorch_itself():
    net = NeuralNetClassifier(
        *(MyModule,),
        criterion=nn.CrossEntropyLoss,
        train_split=None,
        verbose=0,
        iterator_train__shuffle=False,
    )

    class Fixed(MyModule):
        def __init__(self):
            torch.manual_seed(0)
            super().__init__()

    net.set_params(module=Fixed)
    right = GridSearchCV(net, SPACE, cv=3, scoring="accuracy").fit(X, Y)
    found = search(net, scoring="accuracy").fit(MyDataset(torch.from_numpy(X)))
    np.testing.assert_allclose(scores(found), right.cv_results_["mean_test_score"])
