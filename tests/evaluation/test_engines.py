"""The engines: the same search on loky, threads, a Dask cluster and a Ray cluster."""

import os
import signal
import socket
import sys
import time
import warnings
import weakref

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from joblib._parallel_backends import ParallelBackendBase
from joblib.parallel import get_active_backend
from scipy.stats import loguniform
from sklearn.datasets import make_classification
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import HalvingHyperbandSearchCV, SearchCV
from skhpo.evaluation import Setting, slots_of
from skhpo.evaluation._fit import run_group
from skhpo.evaluation._pool import Pool
from skhpo.evaluation._tasks import FitGroup, FitTask
from skhpo.journal import CheckpointFile
from skhpo.limits import current_slot
from skhpo.rows import DatasetRows
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = make_classification(120, 6, random_state=0)
X, y = X.astype(np.float32), y.astype(np.int64)
CLUSTERS = ["dask", "ray"]
ENGINES = ["loky", "threading", *CLUSTERS]

pytestmark = pytest.mark.xdist_group("engines")  # one process starts the clusters, not each


@pytest.fixture(scope="module")
def dask_cluster():
    reason = "the dask extra is not installed"
    pytest.importorskip("distributed", reason=reason)
    import dask
    from distributed import Client, LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": 0,  # else Dask itself tries a killed task again
        "distributed.worker.profile.enabled": False,
        "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": "1"},
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None would still listen, on all addresses
            worker_dashboard_address="127.0.0.1:0",
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def ray_cluster():
    ray = pytest.importorskip("ray", reason="the ray extra is not installed")
    from ray.util.joblib import register_ray

    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),  # workers import this module
    }
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        for name, value in settings.items():
            patch.setenv(name, value)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100 * 2**20,
        )
        register_ray()
        yield ray
        ray.shutdown()


@pytest.fixture
def engine(request):
    """Make the engine that a test is parametrized with the active one; return its name."""
    name = request.param
    if name in CLUSTERS:
        cluster = request.getfixturevalue(f"{name}_cluster")
    if name == "dask":
        cluster.wait_for_workers(2)  # an earlier test may have killed one
    with joblib.parallel_config(name, n_jobs=2):
        yield name


def on(names, slow=()):
    """Run a test on engines; on those that are `slow` with what takes long."""
    marks = {name: [pytest.mark.slow] for name in slow}
    engines = [pytest.param(name, marks=marks.get(name, [])) for name in names]
    return pytest.mark.parametrize("engine", engines, indirect=True)


def table(search):
    results = pd.DataFrame(search.cv_results_)
    return results[[name for name in results if "time" not in name]]


def assert_same_results(search, engine):
    """Compare a search on the active engine with the same one in a plain loop."""
    reference = sklearn.clone(search).set_params(n_jobs=1, journal=None)
    with joblib.parallel_config("loky"):
        reference.fit(X, y)
    begin = time.time()
    search.fit(X, y)
    pd.testing.assert_frame_equal(table(search), table(reference))
    assert search.best_params_ == reference.best_params_
    assert_says_who_ran_what(search, engine, begin)
    if not search.return_predictions:
        return
    kept, expected = search.out_of_fold_predictions(), reference.out_of_fold_predictions()
    np.testing.assert_allclose(kept, expected, rtol=1e-5)
    models = search.kept_models()
    for model, test in zip(models, search.predictions_.test_rows, strict=True):
        again = getattr(model, search.predictions_.method)(X[test])
        np.testing.assert_allclose(again, kept[0][test], rtol=1e-5)


def assert_says_who_ran_what(search, engine, begin):
    starts, workers = search.timing_["start"], search.timing_["worker"]
    assert begin - 1 < starts.min() <= starts.max() < time.time() + 1
    driver = [socket.gethostname(), str(os.getpid())]
    in_driver = [worker.split(":")[:2] == driver for worker in workers.flat]
    assert in_driver == [engine == "threading"] * workers.size


@on(ENGINES, slow=["ray"])
def test_a_pipeline_whose_states_travel(engine):
    assert_same_results(
        HalvingHyperbandSearchCV(
            make_pipeline(StandardScaler(), SGDClassifier()),
            {
                "standardscaler__with_mean": [True, False],
                "sgdclassifier__alpha": loguniform(1e-5, 1e-1),
            },
            resource="sgdclassifier__max_iter",
            max_resources=9,
            cv=2,
            random_state=0,
            return_predictions=True,
            keep_models=1,
        ),
        engine,
    )


@on(ENGINES, slow=["ray"])
def test_a_network_with_checkpoints(engine, tmp_path, monkeypatch):
    from skhpo import TorchClassifier  # here, so that no other test's workers import torch

    monkeypatch.chdir(tmp_path)  # where the workers of a cluster are not
    assert_same_results(
        HalvingHyperbandSearchCV(
            TorchClassifier(device="cpu"),
            {"lr": loguniform(1e-3, 1e-1), "module__dropout": [0.0, 0.5]},
            max_resources=3,
            cv=2,
            random_state=0,
            journal="run.jsonl",
            return_predictions=True,
            keep_models=1,
        ),
        engine,
    )


def test_without_a_shared_disk_states_travel(tmp_path):
    from skhpo import TorchClassifier

    setting = Setting(TorchClassifier(device="cpu"), accuracy, seed=0, resource="max_epochs")
    file = CheckpointFile(str(tmp_path / "not there" / "0-0-0.pt"), fit="0-0-0")
    task = FitTask(0, 0, split=0, repeat=0, params={}, levels=(2,), save=file, keep=file)
    (outcome,) = run_group(
        (0,), FitGroup([task]), setting, X, y, (np.arange(100), np.arange(100, 120))
    )
    assert outcome.result.error is None
    assert len(outcome.state.history_) == 2
    kept = outcome.model.unpacked(TorchClassifier(device="cpu"))
    np.testing.assert_array_equal(kept.predict(X), outcome.state.predict(X))


def accuracy(estimator, X, y):
    return estimator.score(X, y)


@on(ENGINES, slow=["ray"])
def test_rows_as_the_resource(engine):
    assert_same_results(
        HalvingHyperbandSearchCV(
            make_pipeline(StandardScaler(), SGDClassifier()),
            {"sgdclassifier__alpha": loguniform(1e-5, 1e-1)},
            resource="n_samples",
            min_resources=20,
            max_resources=60,
            cv=2,
            random_state=0,
            return_predictions=True,
            keep_models=1,
        ),
        engine,
    )


def grid_of(estimator, space, **kwargs):
    def scheduler(space, random_state):
        return FullScheduler(GridSampler(space), n_candidates=space.size)

    return SearchCV(estimator, space, scheduler=scheduler, random_state=0, **{"cv": 2} | kwargs)


@on(ENGINES)
def test_a_fit_that_fails(engine):
    search = grid_of(SGDClassifier(), {"alpha": [0.1, -1.0, 0.01]})
    with pytest.warns(FitFailedWarning, match="2 of 6 fits failed"):
        assert_same_results(search, engine)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True, False]


class Deadly(SGDClassifier):
    """Notes that it is fitted, and may take its worker with it."""

    def __init__(self, log=None, i=0, deadly=1):
        super().__init__(random_state=0)
        self.log = log
        self.i = i
        self.deadly = deadly

    def fit(self, X, y):
        with open(self.log, "a") as file:
            file.write(f"{self.i}\n")
        if self.i == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y)


@on(CLUSTERS)
def test_a_worker_that_dies_costs_one_retry_of_its_fits(engine, tmp_path):
    log = tmp_path / "log"
    estimator = Deadly(log=str(log))
    one_split = ShuffleSplit(1, random_state=0)
    search = grid_of(estimator, {"i": [0, 1, 2, 3]}, cv=one_split, error_score=-1, refit=False)
    with pytest.warns(FitFailedWarning, match="1 of 4 fits failed"):
        search.fit(X, y)
    assert (search.cv_results_["mean_test_score"] == -1).tolist() == [False, True, False, False]
    fits = log.read_text().split()
    assert fits.count("1") == 2
    assert all(1 <= fits.count(i) <= 2 for i in "023")


class Endless(SGDClassifier):
    def fit(self, X, y):
        while self.alpha > 0.5:
            pass
        return super().fit(X, y)


@on(ENGINES)
def test_a_fit_that_hangs_is_answered_and_the_search_goes_on(engine):
    space = {"alpha": [1.0, 0.1, 0.01, 0.001]}
    search = grid_of(Endless(random_state=0), space, cv=ShuffleSplit(1, random_state=0))
    with pytest.warns(FitFailedWarning, match=r"(?s)1 of 4 fits.*longer than fit_timeout=1 sec"):
        search.set_params(fit_timeout=1).fit(X, y)
    assert list(np.isnan(search.cv_results_["mean_test_score"])) == [True, False, False, False]


class Counted:
    """Rows that count how often they are pickled."""

    pickled = 0

    def __init__(self, rows):
        self.rows = rows
        self.shape = rows.shape

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.rows, dtype)

    def __reduce__(self):
        Counted.pickled += 1
        return Counted, (self.rows,)


@on(CLUSTERS)
@pytest.mark.parametrize(
    "estimator", [SGDClassifier(), make_pipeline(StandardScaler(), SGDClassifier())]
)
def test_data_leave_the_driver_once(engine, estimator, monkeypatch):
    monkeypatch.setattr(Counted, "pickled", 0)
    alpha = "alpha" if isinstance(estimator, SGDClassifier) else "sgdclassifier__alpha"
    grid_of(estimator, {alpha: [0.1, 0.2, 0.3]}).fit(Counted(X), y)
    assert Counted.pickled == 1


class Described:
    """A dataset that knows a path, and opens the file where an item is needed."""

    def __init__(self, path):
        self.path, self.rows = path, None

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        if self.rows is None:
            self.rows = np.load(self.path, mmap_mode="r")
        return np.array(self.rows[i]), y[i]

    def __getstate__(self):
        return {"path": self.path, "rows": None}


def test_of_a_dataset_its_description_goes_to_a_cluster(dask_cluster, tmp_path):
    np.save(tmp_path / "X.npy", X)
    dataset = Described(tmp_path / "X.npy")
    np.testing.assert_array_equal(dataset[3][0], X[3])
    # Named rows are not counted, which would take torch in each worker.
    data = DatasetRows(dataset, np.arange(len(X))[::-1])
    with joblib.parallel_config("dask"), Pool() as pool:
        found = results(pool, read_item, range(12), shared=(data,))
    objects = {(pid, name) for pid, name, _, _ in found}
    assert len(objects) == len({pid for pid, _ in objects}) == 2
    assert not any(was_open for _, _, was_open, _ in found[:1])
    np.testing.assert_array_equal(sorted(row[0] for *_, row in found), sorted(X[-12:, 0]))


@pytest.mark.slow
@on(CLUSTERS)
def test_a_search_over_a_dataset_scores_as_arrays(engine, tmp_path):
    """The small sibling is the test before, and those of ``test_search_datasets.py`` here."""
    torch = pytest.importorskip("torch")
    from skhpo import TorchClassifier

    class Images(torch.utils.data.Dataset):
        __len__, __getitem__ = Described.__len__, Described.__getitem__
        __init__, __getstate__ = Described.__init__, Described.__getstate__

        def __setstate__(self, state):
            self.__dict__ = state

    small = X.astype(np.float32)
    np.save(tmp_path / "X.npy", small)
    net = TorchClassifier(max_epochs=1, module__n_units=4)
    search = grid_of(net, {"lr": [0.01, 0.1]}, refit=False)
    found = sklearn.clone(search).fit(Images(tmp_path / "X.npy"))
    assert_says_who_ran_what(found, engine, 0)
    with joblib.parallel_config("loky"):
        right = sklearn.clone(search).set_params(n_jobs=1).fit(small, y)
    np.testing.assert_allclose(
        found.cv_results_["mean_test_score"], right.cv_results_["mean_test_score"], rtol=1e-5
    )


def read_item(i, data):
    was_open = data.dataset.rows is not None
    row, _ = data.dataset[data.rows[i]]
    return os.getpid(), id(data.dataset), was_open, row


def test_data_go_to_a_dask_worker_once(dask_cluster):
    with joblib.parallel_config("dask"), Pool() as pool:
        arrays = set(results(pool, identify, range(12), shared=(np.arange(10.0),)))
    assert len(arrays) == len({worker for worker, _ in arrays}) == 2


def identify(_, value):
    return os.getpid(), id(value)


def results(pool, function, items, **kwargs):
    waiting, out = list(items), []
    while waiting or pool.running:
        while waiting and pool.free:
            pool.submit(function, [waiting.pop(0)], **kwargs)
        done = pool.wait()
        assert done.error is None
        out += done.results
    return out


def test_what_is_forgotten_is_released(dask_cluster):
    with joblib.parallel_config("dask"), Pool() as pool:
        value = np.arange(10.0)
        shipped = weakref.ref(pool._ship(value))
        results(pool, identify, [0], shared=(value,))
        assert shipped() is not None
        pool.forget(value)
        assert shipped() is None


def surroundings(_):
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn("hidden by the caller", UserWarning, stacklevel=1)
    backend, n_jobs = get_active_backend()
    routing = sklearn.get_config()["enable_metadata_routing"]
    return routing, len(caught), type(backend).__name__, backend.nesting_level, n_jobs


@on(ENGINES)
def test_workers_see_the_configuration_of_the_caller(engine):
    with sklearn.config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with Pool() as pool:
            seen = set(results(pool, surroundings, range(4)))
    # What a fit itself does in parallel, it does in threads, and only if it is told to.
    assert seen == {(True, 0, "ThreadingBackend", 1, None)}


def slot_of(_):
    return current_slot()


@on(CLUSTERS)
def test_devices_of_a_cluster_are_left_to_its_workers(engine):
    for devices, slot in [("auto", None), ("cpu", "cpu")]:
        with Pool(slots=slots_of(devices)) as pool:
            assert set(results(pool, slot_of, range(4))) == {slot}
    search = grid_of(SGDClassifier(), {"alpha": [0.1]}, devices=["cpu", "cpu"])
    with pytest.raises(ValueError, match="names devices of this machine"):
        search.fit(X, y)


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


@on(CLUSTERS)
def test_a_cluster_is_of_use_after_an_interrupt(engine, tmp_path):
    with pytest.raises(KeyboardInterrupt), Pool() as pool:  # noqa: PT012
        pool.submit(wait_for, [str(tmp_path / "go")])
        pool.submit(wait_for, [str(tmp_path / "go")])
        raise KeyboardInterrupt
    (tmp_path / "go").touch()  # what runs on a Dask worker cannot be stopped
    with Pool() as pool:
        waiting, found = [0, 1, 2, 3], []
        while waiting or pool.running:
            while waiting and pool.free:
                pool.submit(abs, [waiting.pop(0)])
            done = pool.wait()
            # A worker may still be killed that ended its call just as it was stopped: a search then
            # fits again, once, what was lost.
            assert done.error is None or done.lost
            found += [None] if done.lost else done.results
            waiting += done.items if done.lost else []
    assert sorted(number for number in found if number is not None) == [0, 1, 2, 3]
    assert found.count(None) <= 2  # one for each worker


@on(CLUSTERS)
@pytest.mark.parametrize(("n_jobs", "at_a_time"), [(None, 2), (-1, 2), (-2, 1), (1, 1), (9, 2)])
def test_jobs_in_a_cluster(engine, n_jobs, at_a_time):
    with joblib.parallel_config(engine), Pool(n_jobs) as pool:
        assert pool.n_jobs_ == at_a_time


def test_a_backend_that_cannot_say_what_has_ended():
    class AllAtOnce(ParallelBackendBase):
        def effective_n_jobs(self, n_jobs):
            return 2

    at_once = joblib.parallel_config(AllAtOnce(nesting_level=0))
    with at_once, pytest.raises(ValueError, match="which AllAtOnce cannot do"):
        Pool().__enter__()


def test_a_ray_cluster_without_room(ray_cluster):
    on_a_gpu = joblib.parallel_config("ray", ray_remote_args={"num_gpus": 1})
    with on_a_gpu, pytest.raises(ValueError, match="must fit into the Ray cluster"):
        Pool().__enter__()
