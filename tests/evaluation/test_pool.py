"""The pool: results as they come, on any joblib backend."""

import os
import pickle
import re
import signal
import sys
import threading
import time
import types
import warnings
from contextlib import suppress

import joblib
import pytest
import sklearn
import torch
from joblib.externals.loky import process_executor

from skhpo.evaluation import _pool
from skhpo.evaluation._pool import Pool
from skhpo.limits import current_slot
from skhpo.process import ignoring, own_filters, with_filters


def square(x):
    return x * x


def add(x, other):
    return x + other


def fail_at_three(x):
    if x == 3:
        raise RuntimeError("three")
    return x


def seen_by_a_worker(_):
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn("hidden by the caller", UserWarning, stacklevel=1)
    return os.getpid(), sklearn.get_config()["enable_metadata_routing"], len(caught)


def kill_yourself(_):
    os.kill(os.getpid(), signal.SIGKILL)


def leak(x):
    """Make a worker one that joblib replaces for the memory that it uses, as of its next call."""
    if x < 2:
        process_executor._MEMORY_LEAK_CHECK_DELAY = 0
        process_executor._MAX_MEMORY_LEAK_SIZE = -(2**60)
    return x


def results(pool, function, items, **kwargs):
    """Run items one call each, as many at a time as there is room for; (item, result) pairs."""
    waiting, out = list(items), []
    while waiting or pool.running:
        while waiting and pool.free:
            pool.submit(function, [waiting.pop(0)], **kwargs)
        done = pool.wait()
        assert done.error is None
        out.append((done.items[0], done.results[0]))
    return out


backends = pytest.mark.parametrize(
    ("backend", "n_jobs"), [("loky", 1), ("loky", 2), ("threading", 2)]
)


@backends
def test_every_item_comes_back(backend, n_jobs):
    with joblib.parallel_config(backend), Pool(n_jobs) as pool:
        assert dict(results(pool, square, range(10))) == {i: i * i for i in range(10)}
        assert dict(results(pool, add, range(3), shared=(5,))) == {0: 5, 1: 6, 2: 7}


@backends
def test_several_items_in_one_call(backend, n_jobs):
    with joblib.parallel_config(backend), Pool(n_jobs) as pool:
        pool.submit(square, [1, 2, 3])
        assert pool.wait().results == [1, 4, 9]


@backends
def test_an_exception_reaches_the_caller(backend, n_jobs):
    with (
        joblib.parallel_config(backend),
        pytest.raises(RuntimeError, match="three"),
        Pool(n_jobs) as pool,
    ):
        results(pool, fail_at_three, range(10))


def test_results_come_as_calls_end_and_not_in_order():
    second_done = threading.Event()

    def first_waits(i):
        if i == 0:
            assert second_done.wait(30)
        else:
            second_done.set()
        return i

    with joblib.parallel_config("threading"), Pool(2) as pool:
        assert [i for i, _ in results(pool, first_waits, range(2))] == [1, 0]


def test_jobs_come_from_the_context_unless_given():
    with joblib.parallel_config("threading", n_jobs=2):
        with Pool() as pool:
            assert pool.n_jobs_ == pool.free == 2
        with Pool(3) as pool:
            assert pool.n_jobs_ == 3
    with Pool() as pool:
        assert pool.n_jobs_ == 1


def test_workers_see_the_configuration_of_the_caller():
    with sklearn.config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with Pool(2) as pool:
            seen = [result for _, result in results(pool, seen_by_a_worker, range(4))]
    assert all(routing for _, routing, _ in seen)
    assert not any(caught for _, _, caught in seen)
    assert os.getpid() not in {pid for pid, _, _ in seen}


def precision_of_a_worker(_):
    return {
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.is_deterministic_algorithms_warn_only_enabled(),
        "autocast": torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"),
    }


@backends
def test_workers_compute_in_the_precision_of_the_caller(backend, n_jobs):
    def seen():
        with joblib.parallel_config(backend), Pool(n_jobs) as pool:
            return [result for _, result in results(pool, precision_of_a_worker, range(4))]

    usual = precision_of_a_worker(0)
    assert usual == {"dtype": torch.float32, "deterministic": False, "autocast": False}
    try:
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True, warn_only=True)
        with torch.autocast("cpu", torch.float16):
            of_caller = precision_of_a_worker(0)
            assert of_caller["autocast"] is torch.float16
            assert seen() == [of_caller] * 4
    finally:
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
    assert seen() == [usual] * 4


def test_filters_of_a_library_are_for_processes_that_have_imported_it(monkeypatch):
    kind = type("OfALibrary", (UserWarning,), {"__module__": "a_library"})
    library = types.SimpleNamespace(OfALibrary=kind)
    monkeypatch.setitem(sys.modules, "a_library", library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kind)
        sent = pickle.dumps(own_filters())
    with with_filters(pickle.loads(sent)):
        warnings.warn("hidden", kind, stacklevel=1)
    monkeypatch.delitem(sys.modules, "a_library")
    with with_filters(pickle.loads(sent)):
        assert kind not in [entry[2] for entry in warnings.filters]
        with pytest.raises(UserWarning, match="as pytest says"):
            warnings.warn("as pytest says", UserWarning, stacklevel=1)


def test_zero_jobs_is_an_error():
    with pytest.raises(ValueError, match="n_jobs == 0"), Pool(0):
        pass


def test_a_dead_worker_is_told_and_replaced():
    with Pool(2) as pool:
        pool.submit(kill_yourself, [0])
        done = pool.wait()
        assert done.lost
        assert done.results is None
        pool.restart()
        assert dict(results(pool, square, [3])) == {3: 9}


def stand_still(_):
    os.kill(os.getpid(), signal.SIGSTOP)


def started(_):
    """Return when this process was started, in seconds since that of the machine."""
    with open("/proc/self/stat") as file:
        ticks = file.read().rpartition(")")[2].split()[19]
    return int(ticks) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system when a process was started")
def test_a_new_worker_starts_before_what_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(_pool, "HOPELESS", 6)  # with time for a busy machine to start a process
    with Pool(2) as pool:
        pool.submit(stand_still, [0], seconds=0.1)
        done = pool.wait()
        ended = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert (done.lost, done.overdue) == (True, 0)
        pool.restart()
        assert min(seen for _, seen in results(pool, started, range(4))) < ended


def own_process(_):
    return os.getpid()


def go_on_until_it_is_there(path):
    """Do so whatever is raised, and return the process."""
    end = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < end:
        with suppress(BaseException):
            time.sleep(0.05)
    return os.getpid()


def test_workers_that_are_not_needed_are_those_of_the_next_pool(tmp_path, monkeypatch):
    monkeypatch.setattr(_pool, "HOPELESS", 6)
    with Pool(2) as pool:
        prepare = pool._engine.prepare
        monkeypatch.setattr(
            pool._engine, "prepare", lambda *args: (prepare(*args), (tmp_path / "there").touch())
        )
        pool.submit(go_on_until_it_is_there, [str(tmp_path / "there")], seconds=0.1)
        (first,) = pool.wait().results
        assert dict(results(pool, square, [3])) == {3: 9}
    with Pool(2) as pool:
        assert first not in [process for _, process in results(pool, own_process, range(4))]


@backends
def test_a_call_holds_exactly_one_slot(backend, n_jobs):
    lock, held, clashes = threading.Lock(), set(), []

    def hold(_):
        slot = current_slot()
        with lock:
            clashes.extend([slot] if slot in held else [])
            held.add(slot)
        with lock:
            held.remove(slot)
        return slot

    def slots(n, local):
        assert local
        return [f"stand-in:{i}" for i in range(n)]

    if backend == "loky" and n_jobs > 1:
        seen = {"stand-in:0", "stand-in:1"}
        with joblib.parallel_config(backend), Pool(n_jobs, slots=slots) as pool:
            assert {slot for _, slot in results(pool, _slot, range(6))} <= seen
        return
    with joblib.parallel_config(backend), Pool(n_jobs, slots=slots) as pool:
        used = {slot for _, slot in results(pool, hold, range(20))}
    assert used <= set(slots(n_jobs, True))
    assert clashes == []
    assert current_slot() is None


def _slot(_):
    return current_slot()


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_a_pool_without_slots_leaves_nothing_behind(backend):
    def slots(n, local):
        raise ValueError("no device")

    filters = list(warnings.filters)
    with (
        joblib.parallel_config(backend),
        pytest.raises(ValueError, match="no device"),
        Pool(2, slots=slots),
    ):
        pass
    assert warnings.filters == filters


def test_fewer_slots_than_jobs_bound_what_runs():
    with joblib.parallel_config("threading"), Pool(4, slots=lambda n, local: ["a", "b"]) as pool:
        assert pool.free == 2


def _threads(_):
    import torch

    return torch.get_num_threads()


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_jobs_times_threads_stay_within_the_cores(backend):
    with joblib.parallel_config(backend), Pool(2) as pool:
        threads = {n for _, n in results(pool, _threads, range(4))}
    assert 2 * max(threads) <= max(2, joblib.cpu_count())


def test_calls_that_no_worker_has_taken_are_dropped_in_silence():
    # pytest looks out for exceptions in the threads of the workers' pool.
    def fail(pool):
        results(pool, square, range(2))
        pool.submit(square, [1])
        pool.submit(square, [2])
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"), Pool(2) as pool:
        fail(pool)
    with Pool(2) as pool:
        assert len(results(pool, square, range(3))) == 3


def test_a_replaced_worker_stops_nothing_where_warnings_are_errors():
    """Loky warns in its own thread that it replaces one; if that ends it, nothing comes back."""
    came = []

    def run():
        with joblib.parallel_config("loky"), Pool(2) as pool:
            came.extend(result for _, result in results(pool, leak, range(10)))

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(120)
    assert sorted(came) == list(range(10))


def test_what_is_ignored_is_so_whatever_filters_came_between():
    quiet = ignoring(UserWarning, re.compile("ours"))
    with warnings.catch_warnings():
        filters = list(warnings.filters)
        with quiet:
            warnings.simplefilter("error")  # before ours, from here on
            with quiet:
                warnings.warn("ours", UserWarning, stacklevel=1)
            warnings.resetwarnings()  # and this drops it
            with quiet:
                warnings.warn("ours", UserWarning, stacklevel=1)
            with pytest.warns(UserWarning, match="theirs"), quiet:
                warnings.warn("theirs", UserWarning, stacklevel=1)
            warnings.filters[:] = [*warnings.filters, *filters]
        assert warnings.filters == filters


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_calls_that_nothing_would_end_are_lost(monkeypatch):
    monkeypatch.setattr(_pool, "_LOOK_AFTER", 0.1)

    def fail(self, item):
        raise RuntimeError("in the thread that hands calls to workers")

    with joblib.parallel_config("loky"), Pool(2) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(process_executor._ExecutorManagerThread, "process_result_item", fail)
            for item in (2, 3):
                pool.submit(square, [item])
            ended = [pool.wait(), pool.wait()]
        assert sorted(done.items for done in ended) == [[2], [3]]
        assert all(done.lost for done in ended)
        pool.restart()
        assert sorted(results(pool, square, range(4))) == [(0, 0), (1, 1), (2, 4), (3, 9)]


def test_a_call_after_a_death_that_was_not_told_yet():
    with joblib.parallel_config("loky"), Pool(2) as pool:
        pool.submit(kill_yourself, [0])
        while pool._done.empty():
            time.sleep(0.01)
        pool.submit(square, [2])
        ended = [pool.wait(), pool.wait()]
        assert sorted(done.items for done in ended) == [[0], [2]]
        assert all(done.lost for done in ended)
        pool.restart()
        assert results(pool, square, [3]) == [(3, 9)]
