"""Devices: choosing one, and living on one."""

import contextlib
import pickle
import threading

import numpy as np
import pytest
import torch
from scipy.stats import loguniform, uniform
from sklearn.exceptions import FitFailedWarning
from torch import nn

from skhpo import SearchCV, SelfTuningClassifier
from skhpo.estimators import ConvNet, TorchClassifier
from skhpo.lockstep import Member, train_together
from skhpo.rows import RowSubset
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler
from skhpo.training import data
from skhpo.training.direct import _program
from skhpo.training.forwarding import resolve_device
from skhpo.training.runners import DirectSteps

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and `make test-gpu`"
)
on_cuda = pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])


@pytest.mark.parametrize(
    ("n_cuda", "mps", "chosen"), [(0, False, "cpu"), (2, False, "cuda"), (0, True, "mps")]
)
def test_auto_takes_the_first_there_is(monkeypatch, n_cuda, mps, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto") == torch.device(chosen)
    if n_cuda:
        assert resolve_device("cuda:1") == torch.device("cuda:1")
        with pytest.raises(ValueError, match=r"got 'cuda:2'; there are: 'cpu', 'cuda:0', 'cuda:1'"):
            resolve_device("cuda:2")


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), None])
def test_cpu(blobs, device):
    net = TorchClassifier(device=device, max_epochs=1).fit(*blobs)
    assert net.device_ == torch.device("cpu")
    assert net.device is device


def test_parameter_stays_auto(blobs):
    assert TorchClassifier(max_epochs=1).fit(*blobs).device == "auto"


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("params", [{}, {"module__dropout": 0.3, "class_weight": "balanced"}])
def test_cuda(blobs, params, tmp_path):
    X, y = blobs
    before = torch.cuda.get_rng_state()
    net = TorchClassifier(device="cuda", max_epochs=10, lr=0.01, random_state=0, **params)
    net.fit(X, y)
    assert next(net.module_.parameters()).is_cuda
    assert net.score(X, y) > 0.7
    assert torch.equal(torch.cuda.get_rng_state(), before)
    twin = pickle.loads(pickle.dumps(net))
    loaded = TorchClassifier(**net.get_params(deep=False))
    net.save_checkpoint(tmp_path / "net.pt")
    loaded.load_checkpoint(tmp_path / "net.pt")
    for other in (twin, loaded):
        np.testing.assert_allclose(other.predict_proba(X), net.predict_proba(X), rtol=1e-5)
    reference = net.partial_fit(X, y).predict_proba(X)
    for other in (twin, loaded):
        np.testing.assert_allclose(other.partial_fit(X, y).predict_proba(X), reference, rtol=1e-3)


@contextlib.contextmanager
def steps(kind):
    """Train by "captured" steps, by the same "rules" without a capture, or by "autograd".

    Yields the list of captured functions.
    """
    made = []

    class Noted(_program.Captured):
        def __init__(self, function):
            super().__init__(function)
            made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        if kind == "autograd":
            patch.setattr(DirectSteps, "can_train", lambda self: False)
        patch.setattr(_program, "Captured", Noted if kind == "captured" else lambda f: f)
        yield made


def numbers_of(net):
    """Return the weights of a net, the state of its optimizer, and its losses, on the CPU."""
    states = net.optimizer_.state_dict()["state"].values()
    tensors = [*net.module_.state_dict().values(), *(v for s in states for v in s.values())]
    return [
        *(torch.as_tensor(t).cpu() for t in tensors),
        torch.tensor(net.history[:, "train_loss"]),
    ]


def assert_alike(nets, **tolerances):
    first, *others = map(numbers_of, nets)
    for other in others:
        torch.testing.assert_close(other, first, **tolerances)


def classifier(device="cuda", **params):
    settings = {"lr": 0.01, "batch_size": 32, "max_epochs": 6, "random_state": 0, "device": device}
    return TorchClassifier(**{**settings, **params})


@pytest.fixture
def in_float64(blobs):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield blobs[0].astype(np.float64), blobs[1]
    torch.set_default_dtype(before)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"lr_scheduler": "cosine", "optimizer": "sgd", "optimizer__momentum": 0.9},
        {"lr_scheduler": "one_cycle", "class_weight": "balanced", "label_smoothing": 0.1},
        {"module__normalization": "batch", "module__activation": "gelu", "batch_size": 40},
        {"module__normalization": "layer", "max_grad_norm": 0.1, "accumulate": 2},
        {"validation_fraction": 0.2, "patience": 3, "optimizer": "rmsprop", "max_norm": 1.0},
    ],
    ids=str,
)
def test_captured_steps_are_those_of_autograd(in_float64, params):
    nets = []
    for kind in ("captured", "rules", "autograd"):
        with steps(kind) as made:
            nets.append(classifier(**params).fit(*in_float64))
        if kind == "captured":
            assert made
            assert all(one._graph is not None for one in made), "also that of the last batch"
    assert next(nets[0].module_.parameters()).dtype == torch.float64
    assert_alike(nets, rtol=1e-6, atol=1e-8)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("params", [{}, {"module__normalization": "batch", "optimizer": "sgd"}])
def test_captured_convolutions_are_those_of_autograd(params):
    X = np.random.default_rng(0).normal(size=(90, 8, 8)).astype(np.float32)
    y = (X.mean((1, 2)) > 0).astype(int)
    nets = []
    for kind in ("captured", "rules", "autograd"):
        with steps(kind) as made:
            nets.append(classifier(module=ConvNet, module__n_channels=4, **params).fit(X, y))
        assert kind != "captured" or all(one._graph is not None for one in made)
    assert_alike(nets, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("device", ["cpu", on_cuda])
@pytest.mark.parametrize("params", [{}, {"module__dropout": 0.3}, {"amp": True}], ids=str)
def test_the_same_seed_gives_the_same_network(device, params, blobs):
    nets = [classifier(device, **params).fit(*blobs) for _ in range(2)]
    assert_alike(nets, rtol=0, atol=0)


@pytest.mark.gpu
@needs_cuda
def test_low_precision_is_close(blobs):
    wanted = classifier().fit(*blobs)
    with steps("captured") as made:
        found = classifier(amp="auto").fit(*blobs)
    assert not made, "autograd casts"
    np.testing.assert_allclose(
        found.predict_proba(blobs[0]), wanted.predict_proba(blobs[0]), atol=0.1
    )
    assert next(found.module_.parameters()).dtype == torch.float32


@pytest.mark.gpu
@needs_cuda
def test_networks_captured_in_several_threads_do_not_meet(blobs):
    settings = [
        {"random_state": seed, "module__n_units": 16 + 8 * (seed % 3), "max_epochs": 15}
        for seed in range(6)
    ]
    wanted = [classifier(**of_one).fit(*blobs) for of_one in settings]
    found, errors = {}, []

    def fit(numbers):
        try:
            for number in numbers:
                found[number] = classifier(**settings[number]).fit(*blobs)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=fit, args=(range(start, 6, 2),)) for start in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for number, net in found.items():
        assert_alike([net, wanted[number]], rtol=1e-5, atol=1e-6)


def test_captures_of_a_thread_share_a_stream(monkeypatch):
    """For each stream cuBLAS keeps memory."""
    made, current = [], [0]
    monkeypatch.setattr(_program, "_streams", threading.local())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[0])
    monkeypatch.setattr(torch.cuda, "Stream", lambda: made.append(len(made)) or made[-1])
    first = [_program._stream_of_captures() for _ in range(2)]
    current[0] = 1
    of_another_device = _program._stream_of_captures()
    found = []
    thread = threading.Thread(target=lambda: found.append(_program._stream_of_captures()))
    thread.start()
    thread.join()
    assert [*first, of_another_device, *found] == [0, 0, 1, 2]


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"module__dropout": 0.3},
        {"amp": "auto"},
        {"module__normalization": "batch"},
        {"optimizer": "rmsprop", "lr_scheduler": "cosine"},
        {"validation_fraction": 0.2, "patience": 2},
    ],
    ids=str,
)
def test_groups_on_a_gpu_are_their_networks_alone(blobs, params):
    X, y = blobs
    rows = [np.arange(len(X)) % 5 != k for k in range(3)]

    def nets():
        return [classifier(random_state=k, lr=0.01 * (k + 1), **params) for k in range(3)]

    joint, alone = nets(), nets()
    given = zip(joint, rows, strict=True)
    assert train_together([Member(net, X[part], y[part]) for net, part in given]) == [None] * 3
    for net, other, part in zip(joint, alone, rows, strict=True):
        assert next(net.module_.parameters()).is_cuda
        other.fit(X[part], y[part])
        tolerance = 5e-2 if "amp" in params else 2e-3
        assert_alike([net, other], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("device", ["cpu", on_cuda])
@pytest.mark.parametrize("variant", ["stn", "delta", "implicit", "unrolled"])
def test_self_tuning(device, variant, blobs):
    X, y = blobs
    ranges = {"lr": loguniform(1e-3, 1e-1)} if variant == "unrolled" else {}
    settings = {"n_steps": 2} if ranges else {}
    if not ranges:
        ranges = {"weight_decay": loguniform(1e-6, 1e-1), "label_smoothing": uniform(0, 0.4)}
    nets = [
        SelfTuningClassifier(
            variant=variant,
            hyperparameters=ranges,
            module__n_units=8,
            warmup_epochs=1,
            max_epochs=3,
            random_state=0,
            device=device,
            **settings,
        ).fit(X, y)
        for _ in range(2)
    ]
    assert next(nets[0].module_.parameters()).device.type == device
    assert nets[0].score(X, y) > 0.4
    assert nets[0].schedule_ == nets[1].schedule_
    for values in nets[0].schedule_.values():
        assert values[0] != values[-1]


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("there", ["cpu", "cuda"])
def test_a_checkpoint_goes_on_elsewhere(there, blobs, tmp_path):
    here = {"cpu": "cuda", "cuda": "cpu"}[there]
    params = {"lr_scheduler": "cosine", "max_epochs": 3, "schedule_epochs": 6}
    net = classifier(there, **params).fit(*blobs)
    net.save_checkpoint(tmp_path / "net.pt")
    other = classifier(here, **params)
    other.load_checkpoint(tmp_path / "net.pt")
    assert next(other.module_.parameters()).device.type == here
    assert_alike([net.partial_fit(*blobs), other.partial_fit(*blobs)], rtol=1e-3, atol=1e-4)


def whole_grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


class Greedy(nn.Sequential):
    """A network that asks for more memory than there is, if it is told so."""

    def __init__(self, in_features, out_features, greedy=False):
        super().__init__(nn.Linear(in_features, out_features))
        self.greedy = greedy

    def forward(self, x):
        if self.greedy and len(x) == 32:  # a batch of training
            torch.empty(2**55, device=x.device)
        return super().forward(x)


@pytest.mark.gpu
@needs_cuda
def test_searches_share_a_gpu_and_free_it(blobs):
    found = []
    space = {"lr": [0.003, 0.01, 0.03], "module__n_units": [8, 16]}
    before = torch.cuda.memory_allocated()
    for n_jobs in (1, 2):
        search = SearchCV(
            classifier("auto", max_epochs=3),
            space,
            scheduler=whole_grid,
            cv=3,
            n_jobs=n_jobs,
            devices="auto",
            refit=False,
            random_state=0,
        ).fit(*blobs)
        found.append(search.cv_results_["mean_test_score"])
    np.testing.assert_allclose(*found, atol=0.02)
    del search
    assert torch.cuda.memory_allocated() <= before + 2**20


@pytest.mark.gpu
@needs_cuda
def test_a_candidate_too_large_for_a_gpu_costs_its_fits(blobs):
    net = classifier(module=Greedy, max_epochs=2)
    search = SearchCV(
        net, {"module__greedy": [False, True]}, scheduler=whole_grid, cv=2, random_state=0
    )
    with pytest.warns(FitFailedWarning, match=r"(?s)2 of 4 fits failed.*out of memory"):
        search.fit(*blobs)
    assert list(np.isnan(search.cv_results_["mean_test_score"])) == [False, True]


@pytest.mark.parametrize("device", ["cpu", on_cuda])
def test_rows_of_an_array_that_is_sent(device):
    X = np.arange(60, dtype=np.float64).reshape(20, 3)
    subset = RowSubset(X, np.array([4, 9, 2, 2, 11]))
    sent = data.SubsetRows(subset).sent(torch.device(device), torch.float32)
    assert (sent.tensor.device.type, sent.tensor.dtype) == (device, torch.float32)
    np.testing.assert_array_equal(sent.tensor.cpu(), X)
    index = torch.tensor([3, 0])
    for found in (sent.index_select(0, index), sent[index].index_select(0, torch.arange(2))):
        assert (found.device.type, found.dtype) == (device, torch.float32)
        np.testing.assert_array_equal(found.cpu(), X[[2, 4]])


@pytest.mark.parametrize("device", ["cpu", on_cuda])
@pytest.mark.parametrize(("n_rows", "n_sent"), [(5, 20), (4, 4), (0, 0), (30, 20)])
def test_few_rows_of_an_array_are_sent_alone(n_rows, n_sent, device, monkeypatch):
    monkeypatch.setattr(data, "_is_near", lambda device: False)
    monkeypatch.setitem(data.CHUNK_BYTES, "cuda", 64)  # two or three rows at a time
    X = np.arange(60, dtype=np.float64).reshape(20, 3)
    chosen = np.arange(n_rows) * 7 % 20
    rows = data.Rows(RowSubset(X, chosen), dtype=torch.float32, device=torch.device(device))
    assert rows.resident
    assert len(getattr(rows.source, "tensor", rows.source)) == n_sent
    np.testing.assert_array_equal(rows.X, X[chosen])
    np.testing.assert_array_equal(rows.take(torch.arange(n_rows).flip(0))[0].cpu(), X[chosen[::-1]])


@pytest.mark.parametrize("device", ["cpu", on_cuda])
def test_networks_on_rows_of_an_array_that_is_sent(device, blobs, monkeypatch):
    """On a CPU as if it had memory of its own."""
    X, y = blobs
    parts = [np.arange(len(X)) % 3 != k for k in range(3)]

    def alone(k):
        return classifier(device, random_state=k).fit(X[parts[k]], y[parts[k]])

    wanted = [alone(k) for k in range(3)]
    monkeypatch.setattr(data, "_is_near", lambda device: False)
    subsets = [RowSubset(X, np.flatnonzero(part)) for part in parts]
    rows = data.Rows(subsets[0], y[parts[0]], device=torch.device(device))
    assert rows.resident
    np.testing.assert_array_equal(rows.X, X[parts[0]])
    for k in range(3):
        assert_alike([alone(k), wanted[k]], rtol=1e-5, atol=1e-6)
    nets = [classifier(device, random_state=k) for k in range(3)]
    given = zip(nets, subsets, parts, strict=True)
    with whole_arrays() as sent:
        errors = train_together([Member(net, own, y[part]) for net, own, part in given])
    assert errors == [None] * 3
    assert len(sent) == 3
    assert len({rows.tensor.data_ptr() for rows in sent}) == 1, "the networks share it"
    for net, other in zip(nets, wanted, strict=True):
        assert_alike([net, other], rtol=2e-3, atol=2e-3)


@contextlib.contextmanager
def whole_arrays():
    """Yield a list of the rows whose arrays are sent."""
    found, send = [], data.SubsetRows.sent

    def noted(self, *args):
        found.append(send(self, *args))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data.SubsetRows, "sent", noted)
        yield found


@pytest.mark.gpu
@needs_cuda
def test_rows_that_do_not_fit_are_sent_batch_by_batch(blobs, monkeypatch):
    wanted = classifier().fit(*blobs)
    monkeypatch.setattr("skhpo.training.data._free_bytes", lambda device: 0)
    assert not data.Rows(*blobs, device=torch.device("cuda")).resident
    assert_alike([classifier().fit(*blobs), wanted], rtol=1e-5, atol=1e-6)
