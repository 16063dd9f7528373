"""A dataset travels to worker processes once, and its arrays not at all."""

import multiprocessing
import sys

import numpy as np
import pytest
import torch
from joblib import parallel_config
from torch.utils.data import Dataset, TensorDataset

from skhpo import BayesSearchCV, TorchClassifier
from skhpo.evaluation._travel import is_pickled_as_a_whole, loaded, on_disk
from skhpo.rows import DatasetRows

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4000, 100))
Y = (X[:, 0] > 0).astype(int)


class Mapped(Dataset):
    """Reads rows of a memory map."""

    def __init__(self, path, first=0):
        self.images = np.load(path, mmap_mode="r")[first:]
        self.n_read = 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        self.n_read += 1
        return torch.from_numpy(self.images[i].astype("float32")), int(self.images[i][0] > 0)


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "X.npy", X)
    return tmp_path / "X.npy"


@pytest.mark.parametrize("first", [0, 700])
def test_a_memory_map_stays_in_its_file(path, tmp_path, first):
    data = on_disk(DatasetRows(Mapped(path, first)), str(tmp_path))
    assert data.n_bytes < 10_000
    dataset = loaded(data).given()
    assert isinstance(dataset.images, np.memmap)
    np.testing.assert_array_equal(dataset.images, X[first:])
    assert loaded(data).given() is dataset  # one for all calls of a process


def test_arrays_and_tensors_are_mapped_and_writeable(tmp_path):
    tensors = torch.from_numpy(X), torch.from_numpy(X)[:, :2], torch.ones(3, dtype=torch.bfloat16)
    data = on_disk([*tensors, X.copy(), X[:3]], str(tmp_path))
    assert X.nbytes < data.n_bytes < 2.2 * X.nbytes
    got = loaded(data)
    for one, other in zip(got, [*tensors, X, X[:3]], strict=True):
        assert type(one) is type(other)
        np.testing.assert_array_equal(torch.as_tensor(one).float(), torch.as_tensor(other).float())
    got[0][0] = 7
    got[3][0] = 7
    size = (tmp_path / data.path).stat().st_size
    assert size == data.n_bytes


class Counted(TensorDataset):
    n_pickled = 0

    def __getstate__(self):
        Counted.n_pickled += 1
        return self.__dict__


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python >= 3.12, with threads
def test_a_dataset_is_pickled_once_for_all_fits_and_loaders_in_workers_have_workers():
    dataset = Counted(torch.from_numpy(X[:60]).float(), torch.from_numpy(Y[:60]))
    assert is_pickled_as_a_whole(DatasetRows(dataset))
    workers = {"iterator_train__num_workers": 1}
    net = TorchClassifier(max_epochs=1, module__n_units=4, module__dropout=0.2)
    search = BayesSearchCV(net, {"lr": [0.1, 0.2]}, n_iter=2, n_initial_points=2, refit=False)
    search.set_params(random_state=0, cv=[(range(40), range(40, 60))])
    right = search.fit(X[:60].astype("float32"), Y[:60]).cv_results_["mean_test_score"]
    net.set_params(**workers)
    with parallel_config("loky", n_jobs=2):
        found = search.fit(dataset).cv_results_["mean_test_score"]
    np.testing.assert_allclose(found, right)
    assert Counted.n_pickled == 1


class Open(Mapped):
    def __init__(self, path):
        super().__init__(path)
        self.file = open(path, "rb")  # noqa: SIM115


def test_what_cannot_be_pickled_is_told_before_any_training(path):
    dataset = Open(path)
    search = BayesSearchCV(TorchClassifier(), {"lr": [0.1]}, n_iter=1, n_jobs=2)
    with pytest.raises(TypeError, match=r"X, a Open, is not .*__getstate__ leave out open files"):
        search.fit(dataset, Y)
    dataset.file.close()


class Pairs(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, i):
        return X[i].astype("float32"), Y[i]


def fitted_with(n_workers):
    workers = {f"iterator_{part}__num_workers": n_workers for part in ("train", "valid")}
    net = TorchClassifier(max_epochs=1, random_state=0, **workers).fit(Pairs())
    return net.predict_proba(Pairs())


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_loaders_have_workers_in_a_process_that_ends_with_its_parent():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply(fitted_with, [1])
    np.testing.assert_allclose(found, fitted_with(0), rtol=1e-6)
