"""Products of matrices by OpenBLAS."""

import platform
import sys
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits
from torch.optim.lr_scheduler import LambdaLR

from skhpo.estimators import MLP, TorchClassifier
from skhpo.lockstep import Member, train_together
from skhpo.self_tuning import SelfTuningClassifier
from skhpo.training.direct import _blas, _products

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="scipy-openblas32 is installed on Linux with x86_64 only",
)


library = _blas.library.__wrapped__


@pytest.fixture(autouse=True)
def on_any_processor(monkeypatch):
    """Use the library even where torch is as fast."""
    monkeypatch.setattr(_blas, "library", _blas.load)
    monkeypatch.setattr(_products, "_LEAST_OPERATIONS", {"plain": 0, "with a bias": 0})


def drawn(rng, dtype, lead, n_rows, n_columns, layout):
    """Return matrices that are whole, transposed, parts of larger ones, or equal for networks."""
    shape = (*lead, n_rows, n_columns)
    if layout == "transposed":
        shape = (*lead, n_columns, n_rows)
    elif layout == "part":
        shape = (*lead, n_rows + 3, n_columns + 2)
    elif layout == "every second":
        shape = (*lead, n_rows, 2 * n_columns)
    elif layout == "shared":
        shape = (*[1] * len(lead), n_rows, n_columns)
    matrices = torch.from_numpy(rng.standard_normal(shape)).to(dtype)
    if layout == "transposed":
        return matrices.mT
    if layout == "part":
        return matrices[..., 1 : n_rows + 1, 1 : n_columns + 1]
    if layout == "every second":
        return matrices[..., ::2]
    return matrices.expand(*lead, n_rows, n_columns)


SIZES = st.integers(1, 40)
LAYOUTS = st.sampled_from(["whole", "transposed", "part", "every second", "shared"])


@given(
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([(), (1,), (3,)]),
    SIZES,
    SIZES,
    SIZES,
    LAYOUTS,
    LAYOUTS,
    st.sampled_from(["whole", "transposed", "part"]),
    st.integers(0, 2**32 - 1),
)
def test_products_are_those_of_torch(dtype, lead, m, k, n, of_a, of_b, of_out, seed):
    rng = np.random.default_rng(seed)
    a = drawn(rng, dtype, lead, m, k, of_a)
    b = drawn(rng, dtype, lead, k, n, of_b)
    out = drawn(rng, dtype, lead, m, n, of_out).fill_(float("nan"))
    around = out if out._base is None else out._base
    n_kept = int(around.isfinite().sum())
    product = _blas.product_of(torch.empty(*lead, 1, 1, dtype=dtype))
    assert type(product) is _blas._Product
    exact = a.double() @ b.double()
    tolerance = 4 * k * torch.finfo(dtype).eps * (a.abs().double() @ b.abs().double()).max()
    for result in (product(a, b, out=out), product(a, b)):
        assert (result.double() - exact).abs().max() <= tolerance
    assert product(a, b, out=out) is out
    assert int(around.isfinite().sum()) == n_kept + out.numel()  # nothing else was written


def test_other_layouts_than_before_are_noticed():
    product = _blas.product_of(torch.empty(2, 2))
    a, b = torch.randn(6, 6), torch.randn(6, 6)
    for left, right in [(a, b), (a.mT, b), (a, b.mT), (a[:3], b), (a[:, :4], b[:4]), (a, b)]:
        torch.testing.assert_close(product(left, right), left @ right)


def test_products_without_a_rule_are_those_of_torch(monkeypatch):
    wide = torch.empty(2, 2, dtype=torch.bfloat16)
    assert _blas.product_of(wide) is torch.mm
    monkeypatch.setattr(_blas, "_MOST_OPERATIONS", 10)
    a, b = torch.randn(4, 5), torch.randn(5, 6)
    assert torch.equal(_blas.product_of(a)(a, b), a @ b)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        _blas.product_of(a)(a, a)


def test_division_among_threads_changes_no_bit(monkeypatch):
    a, b = torch.randn(7, 30, 20), torch.randn(7, 20, 30).mT.contiguous().mT
    alone = _blas.product_of(a)(a, b)
    monkeypatch.setattr(_blas, "_OPERATIONS_OF_PART", 30 * 20 * 30)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    taken = []
    divided = _blas._divided
    monkeypatch.setattr(_blas, "_divided", lambda *args: taken.append(divided(*args)))
    assert torch.equal(_blas.product_of(a)(a, b), alone)
    assert taken


def test_limits_of_threads_of_all_libraries_change_no_bit():
    a, b = torch.randn(32, 784), torch.randn(784, 256)
    alone = _blas.product_of(b)(a, b)
    with threadpool_limits(2):
        assert torch.equal(_blas.product_of(b)(a, b), alone)


def sets_threads(epoch):
    """Set the threads of the library between two epochs, as limits of all libraries do."""
    _blas.load().scipy_openblas_set_num_threads(2)
    return 1.0


@pytest.mark.parametrize("kind", ["alone", "lockstep", "self-tuning"])
def test_threads_that_others_set_during_a_fit_are_not_those_of_the_next_epoch(monkeypatch, kind):
    X = np.random.default_rng(0).standard_normal((64, 7)).astype(np.float32)
    schedule = {"lr_scheduler": LambdaLR, "lr_scheduler__lr_lambda": sets_threads}
    settings = {"max_epochs": 3, "batch_size": 32, **schedule}
    used = []
    multiply = _blas._Product.__call__

    def noting(*args, **kwargs):
        used.append(_blas.load().scipy_openblas_get_num_threads())
        return multiply(*args, **kwargs)

    monkeypatch.setattr(_blas._Product, "__call__", noting)
    make = TorchClassifier
    if kind == "self-tuning":
        make = partial(SelfTuningClassifier, warmup_epochs=1)
    nets = [make(MLP, **settings, random_state=seed) for seed in range(2)]
    try:
        if kind == "lockstep":
            assert train_together([Member(net, X, X[:, 0] > 0) for net in nets]) == [None] * 2
        else:
            nets[0].fit(X, X[:, 0] > 0)
    finally:
        _blas.load().scipy_openblas_set_num_threads(1)
    assert len(nets[0].history_) == 3
    assert set(used) == {1}


@pytest.mark.parametrize("lockstep", [False, True], ids=["alone", "lockstep"])
def test_training_is_that_with_products_of_torch(monkeypatch, lockstep):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 7)).astype(np.float32)
    y = rng.integers(0, 3, 90)
    settings = {"module__n_units": 20, "module__n_layers": 2, "max_epochs": 5, "batch_size": 16}

    def losses():
        estimators = [TorchClassifier(MLP, **settings, random_state=seed) for seed in range(3)]
        if lockstep:
            assert train_together([Member(e, X, y) for e in estimators]) == [None] * 3
        else:
            for estimator in estimators:
                estimator.fit(X, y)
        return [[row["train_loss"] for row in e.history_] for e in estimators]

    used = []
    make = _blas._Product._make
    monkeypatch.setattr(_blas._Product, "_make", lambda *args: used.append(args[0]) or make(*args))
    ours = losses()
    assert used
    monkeypatch.setattr(_blas, "library", lambda: None)
    used.clear()
    np.testing.assert_allclose(ours, losses(), rtol=1e-4)
    assert not used


@pytest.mark.parametrize(
    ("core", "environment", "is_slow_in_torch", "is_used"),
    [
        (b"SkylakeX", {}, True, True),
        (b"Haswell", {}, True, False),
        (b"SkylakeX", {"MKL_CBWR": "COMPATIBLE"}, True, False),
        (b"SkylakeX", {}, False, False),
    ],
)
def test_library_is_used_where_it_is_faster(
    monkeypatch, core, environment, is_slow_in_torch, is_used
):
    class Loaded:
        def scipy_openblas_get_corename():
            return core

    monkeypatch.delenv("MKL_CBWR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(_blas, "_is_slow_in_torch", lambda: is_slow_in_torch)
    monkeypatch.setattr(_blas, "load", lambda: Loaded)
    monkeypatch.setattr(_blas, "_is_right", lambda dtype: True)
    assert library() is (Loaded if is_used else None)


def test_library_that_computes_wrong_results_is_not_used(monkeypatch):
    monkeypatch.setattr(_blas, "_is_slow_in_torch", lambda: True)
    monkeypatch.setattr(_blas, "_WITH_AVX512", _Everything())
    monkeypatch.delenv("MKL_CBWR", raising=False)
    assert library() is _blas.load()
    multiply = _blas._Product.__call__
    monkeypatch.setattr(_blas._Product, "__call__", lambda *args: multiply(*args).add_(0.01))
    assert library() is None


class _Everything:
    def __contains__(self, name):
        return True


def test_small_products_of_one_network_are_those_of_torch(monkeypatch):
    monkeypatch.setattr(_products, "_LEAST_OPERATIONS", {"plain": 1000, "with a bias": 2000})
    one, several = torch.empty(10, 10), torch.empty(1, 10, 10)
    for n_rows, biased, is_torchs in [(4, False, True), (6, False, False), (6, True, True)]:
        assert (_products._product(one, n_rows, biased=biased) is torch.mm) == is_torchs
        assert _products._product(several, n_rows, biased=biased) is not torch.bmm
