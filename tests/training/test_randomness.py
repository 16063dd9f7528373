"""Streams that belong to one fit."""

import random
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skhpo.estimators import MLP, TorchClassifier
from skhpo.lockstep import Member, train_together
from skhpo.training import randomness
from skhpo.training.randomness import (
    Masks,
    OwnGenerators,
    Stream,
    fill_mask,
    may_draw,
    noticing_draws,
)


class Drawing(nn.Module):
    """Draws in many ways."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.noise = nn.Parameter(torch.randn(in_features))
        self.recurrent = nn.LSTM(in_features, 4, num_layers=2, dropout=0.3, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.2, batch_first=True)
        self.rrelu = nn.RReLU()
        self.alpha = nn.AlphaDropout(0.1)
        self.out = nn.Linear(4, out_features)

    def forward(self, x):
        if self.training:
            x = x + 0.1 * torch.randn_like(x) + 0.1 * torch.rand(x.shape) * self.noise
        x, _ = self.recurrent(x.unsqueeze(1))
        x, _ = self.attention(x, x, x)
        x = F.dropout(self.alpha(self.rrelu(x)), 0.2, self.training)
        if self.training:
            x = x * torch.empty_like(x).bernoulli_(0.9)
        return self.out(x.squeeze(1))


def weights(net):
    return list(net.module_.state_dict().values())


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def global_states():
    return torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002


IMAGE = torch.arange(900.0).sin().reshape(1, 1, 30, 30)
DROPOUT = {"module__dropout": 0.5, "module__input_dropout": 0.2}


COMPILED = {"compile": True, "compile__backend": "eager", **DROPOUT}
# torch's compiler meets a warning of torch's own on its way.
ignore_compiler = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


@ignore_compiler
@pytest.mark.parametrize("params", [{}, DROPOUT, {"module": Drawing}, COMPILED])
def test_one_seed_gives_one_network(blobs, params):
    nets = [TorchClassifier(max_epochs=3, random_state=7, **params).fit(*blobs) for _ in range(2)]
    assert same(*nets)
    other = TorchClassifier(max_epochs=3, random_state=8, **params).fit(*blobs)
    assert not same(nets[0], other)


@pytest.mark.parametrize("params", [DROPOUT, {"module": Drawing}])
def test_two_threads_train_as_one_does(blobs, params):
    def make(seed):
        return TorchClassifier(max_epochs=4, random_state=seed, **params)

    alone = [make(seed).fit(*blobs) for seed in (0, 1)]
    together = [make(seed) for seed in (0, 1)]
    threads = [threading.Thread(target=net.fit, args=blobs) for net in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same(alone[0], together[0])
    assert same(alone[1], together[1])


@ignore_compiler
@pytest.mark.parametrize("seed", [3, None, "RandomState"])
@pytest.mark.parametrize("params", [DROPOUT, {"module": Drawing}, COMPILED])
def test_global_generators_are_untouched(blobs, params, seed):
    seed = np.random.RandomState(0) if seed == "RandomState" else seed
    before = global_states()
    TorchClassifier(max_epochs=2, random_state=seed, **params).fit(*blobs).predict(blobs[0])
    after = global_states()
    assert torch.equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2] == after[2]


def test_no_seed_means_another_network_each_time(blobs):
    nets = [TorchClassifier(max_epochs=1).fit(*blobs) for _ in range(2)]
    assert not same(*nets)
    again = TorchClassifier(max_epochs=1, random_state=nets[0].seed_).fit(*blobs)
    assert same(nets[0], again)


def test_random_state_instance_moves_on(blobs):
    rng = np.random.RandomState(0)
    first, second = (TorchClassifier(max_epochs=1, random_state=rng).fit(*blobs) for _ in "ab")
    assert not same(first, second)
    rng = np.random.RandomState(0)
    assert same(first, TorchClassifier(max_epochs=1, random_state=rng).fit(*blobs))


def test_dropout_shifts_neither_the_initial_weights_nor_the_order(blobs):
    orders = []

    class Watching(TorchClassifier):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            orders[-1].append(y_true.clone())
            return super().get_loss(y_pred, y_true, *args, **kwargs)

    nets = []
    for dropout in (0.0, 0.5):
        orders.append([])
        net = Watching(random_state=0, max_epochs=2, lr=0.0, module__dropout=dropout)
        nets.append(net.set_params(optimizer="sgd").fit(*blobs))
    assert same(*nets)
    assert all(torch.equal(a, b) for a, b in zip(*orders, strict=True))
    assert not torch.equal(orders[0][0], orders[0][5])  # each epoch has an order of its own


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: F.dropout(x, 0.5),
        lambda x: F.dropout(x.clone(), 0.5, inplace=True),
        lambda x: torch.dropout(x, 0.5, True),
        lambda x: nn.Dropout(0.5)(x),
        lambda x: nn.Dropout1d(0.5)(x[None]),
        lambda x: nn.Dropout2d(0.5)(x[:, :, None, None]),
        lambda x: nn.Dropout3d(0.5)(x[:, :, None, None, None]),
        lambda x: nn.AlphaDropout(0.5)(x),
        lambda x: nn.FeatureAlphaDropout(0.5)(x),
        lambda x: nn.RReLU()(x),
        lambda x: F.gumbel_softmax(x),
        lambda x: nn.FractionalMaxPool2d(2, output_size=13)(IMAGE),
        lambda x: nn.FractionalMaxPool2d(2, output_size=13, return_indices=True)(IMAGE)[0],
        lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
        lambda x: torch.rand(3),
        lambda x: torch.randn(3),
        lambda x: torch.rand_like(x),
        lambda x: torch.randn_like(x),
        lambda x: torch.randint(1000, (5,)),
        lambda x: torch.randint_like(x, 1000),
        lambda x: torch.randperm(50),
        lambda x: torch.normal(0.0, 1.0, (5,)),
        lambda x: torch.bernoulli(torch.full((50,), 0.5)),
        lambda x: torch.full((50,), 0.5).bernoulli(),
        lambda x: torch.poisson(torch.full((50,), 9.0)),
        lambda x: torch.binomial(torch.full((50,), 9.0), torch.full((50,), 0.5)),
        lambda x: torch.multinomial(torch.ones(50), 20),
        lambda x: torch.empty(9).uniform_(),
        lambda x: torch.empty(9).normal_(),
        lambda x: torch.empty(9).exponential_(),
        lambda x: torch.empty(9).cauchy_(),
        lambda x: torch.empty(9).log_normal_(),
        lambda x: torch.empty(50).geometric_(0.2),
        lambda x: torch.empty(50).random_(),
        lambda x: torch.empty(50).bernoulli_(),
        lambda x: torch.distributions.Normal(0.0, 1.0).sample((5,)),
        lambda x: torch.distributions.Gamma(torch.ones(3), torch.ones(3)).sample(),
        lambda x: torch.distributions.Dirichlet(torch.ones(3)).sample(),
        lambda x: nn.init.xavier_uniform_(torch.empty(3, 4)),
        lambda x: nn.init.kaiming_normal_(torch.empty(3, 4)),
        lambda x: nn.init.orthogonal_(torch.empty(3, 4)),
        lambda x: nn.init.trunc_normal_(torch.empty(3, 4)),
        lambda x: nn.TransformerEncoderLayer(8, 2)(x),
        lambda x: nn.GRU(8, 4, 2, dropout=0.5)(x)[0],
        lambda x: nn.RNN(8, 4, 2, dropout=0.5, nonlinearity="relu")(x)[0],
        lambda x: nn.RNN(8, 4, 2, dropout=0.5)(x)[0],
    ],
)
def test_draws_come_from_the_stream(draw):
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    with OwnGenerators(Stream(0, "forward")):
        first, second = draw(x), draw(x)
    with OwnGenerators(Stream(0, "forward")):
        again = draw(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


class OfADevice:
    """A stand-in for a generator of any device."""

    on_cpu = torch.Generator

    def __init__(self, device):
        self.device, self.own = torch.device(device), self.on_cpu()
        self.get_state, self.set_state = self.own.get_state, self.own.set_state

    def manual_seed(self, seed):
        self.own.manual_seed(seed)
        return self


@pytest.mark.parametrize("saved", ["in memory", "saved", "saved by its device"])
def test_a_stream_goes_on_on_another_device_of_its_kind(saved, monkeypatch):
    def draws(stream, device, n):
        return torch.rand(n, generator=stream.generator(device).own)

    current = [0]
    monkeypatch.setattr(randomness.torch, "Generator", OfADevice)
    monkeypatch.setattr(randomness, "_exists", lambda device: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[0])
    wanted = draws(Stream(0, "forward"), "cuda:0", 6)
    stream = Stream(0, "forward")
    found = [draws(stream, "cuda:0", 2)]
    state = stream.state()
    assert list(state) == ["cuda"]
    if saved != "in memory":
        state = {"cuda:0": state["cuda"]} if "device" in saved else state
        stream = Stream(0, "forward").set_state(state)
    found.append(draws(stream, "cuda:1", 2))
    current[0] = 2
    found.append(draws(stream, "cuda", 2))
    assert torch.equal(torch.cat(found), wanted)
    assert stream.generator("cuda").device == torch.device("cuda:2")


def test_functions_that_torch_marks_as_drawing_are_known():
    """A new random function of torch must not slip through to the default generator."""
    from skhpo.training.randomness import _WITH_GENERATOR, _WITHOUT_GENERATOR

    known = _WITH_GENERATOR | _WITHOUT_GENERATOR
    schemas = (schema.name.split("::") for schema in torch._C._jit_get_all_schemas())
    unknown = set()
    for name in {name for space, name in schemas if space == "aten" and name[0] != "_"}:
        packet = getattr(torch.ops.aten, name, None)
        if not isinstance(packet, torch._ops.OpOverloadPacket):
            continue
        tags = (getattr(packet, overload).tags for overload in packet.overloads())
        if any(torch.Tag.nondeterministic_seeded in of_overload for of_overload in tags):
            functions = (getattr(home, name, None) for home in (torch, torch.Tensor, F))
            unknown |= {f for f in functions if callable(f) and f not in known}
    assert not unknown


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_masks_have_their_rate(rate, dtype):
    n = 400_000
    mask = torch.empty(n // 4, 4, dtype=dtype)
    fill_mask(mask, rate, torch.Generator().manual_seed(0))
    kept = torch.tensor(1 / (1 - rate), dtype=dtype)
    assert set(mask.unique().tolist()) == {0.0, kept.item()}
    # Four standard errors, of all values and of each column (which has its own bits of a word).
    dropped = (mask == 0).double()
    error = 4 * (rate * (1 - rate) / n) ** 0.5
    assert abs(dropped.mean() - rate) < error
    assert (dropped.mean(0) - rate).abs().max() < 2 * error
    if dtype is torch.float32 and rate == 0.5:
        # Neighbours, and values of another draw, are independent.
        other = torch.empty_like(mask)
        fill_mask(other, rate, torch.Generator().manual_seed(1))
        for pair in ((mask[:, 0], mask[:, 1]), (mask[1:, 0], mask[:-1, 3]), (mask, other)):
            products = [(half.flatten() - 1) for half in pair]
            assert abs((products[0] * products[1]).mean()) < 4 / len(products[0]) ** 0.5


@pytest.mark.parametrize("rate", [0.001, 0.3, 0.95])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("dropout", "shape"),
    [
        (F.dropout, (6, 5)),
        (F.dropout, (3, 5, 4)),
        (F.dropout1d, (6, 5, 4)),
        (F.dropout2d, (6, 5, 4, 2)),
        (F.dropout3d, (2, 5, 4, 2, 2)),
    ],
)
def test_autograd_has_the_masks_of_rules(dropout, shape, dtype, rate):
    x = torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(1)) + 1
    if len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    with OwnGenerators(Stream(5, "forward")):
        own = dropout(x, rate)
        again = dropout(x.clone(), rate, inplace=True)
    of_channels = dropout is not F.dropout
    mask = torch.empty(*shape[:2], *([1] if of_channels else shape[2:3]), dtype=dtype)
    mask = mask.view(*shape[:2], *[1] * (len(shape) - 2)) if of_channels else mask.view(shape)
    masks = Masks(Stream(5, "forward").generator)
    for found in (own, again):
        masks(mask, rate)
        assert torch.equal(found, x * mask)


def test_dropout_of_rows_without_a_batch_is_that_of_torch():
    x = torch.ones(5, 400)
    with OwnGenerators(Stream(5, "forward")):
        rows = F.dropout1d(x, 0.5)  # 5 channels
    assert ((rows == 0).all(1) | (rows == 2).all(1)).all()


@pytest.mark.parametrize(
    "change",
    [
        torch.func.grad(lambda x: F.dropout(x, 0.5).sum()),
        torch.func.vmap(lambda x: F.dropout(x, 0.5), randomness="different"),
        torch.func.grad(lambda x: F.dropout1d(x.view(1, 1, -1).mT, 0.5).sum()),
        lambda x: F.dropout(x, torch.tensor(0.5)),
    ],
    ids=["grad", "vmap", "grad of channels", "rate in a tensor"],
)
def test_dropout_under_transforms_draws_from_its_stream(change):
    x = torch.ones(400)
    before = torch.get_rng_state()
    drawn = []
    for seed in (0, 0, 1):
        with OwnGenerators(Stream(seed, "forward")):
            drawn.append(change(x))
    assert torch.equal(torch.get_rng_state(), before)
    assert set(drawn[0].tolist()) == {0.0, 2.0}
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_masks_do_not_depend_on_defaults(dtype):
    x = torch.ones(6, 40, dtype=torch.float16)
    streams = [Stream(0, "forward") for _ in range(2)]

    def drawn():
        with OwnGenerators(Stream(0, "forward")):
            own = F.dropout(x, 0.3)
        masks = torch.empty(2, 3, 40, dtype=torch.float16, device="cpu")
        Masks().fill_each(masks, [0.3, 0.01], [3, 2], [stream.generator() for stream in streams])
        return own, masks

    expected = drawn()
    streams = [Stream(0, "forward") for _ in range(2)]
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            found = drawn()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, found, expected))


def test_masks_of_doubles_are_exact_in_any_layout():
    masks = torch.empty(40, 30, dtype=torch.float64), torch.empty(30, 40, dtype=torch.float64).mT
    for mask in masks:
        fill_mask(mask, 0.3, torch.Generator().manual_seed(0))
    assert torch.equal(*masks)
    assert masks[0].max() == 1 / (1 - 0.3)


@pytest.mark.parametrize("alone", [True, False])
def test_dropout_of_integers_is_an_error_as_in_torch(alone):
    module = nn.Sequential(nn.Dropout(0.3), nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 2))
    X, y = np.arange(36).reshape(12, 3) % 5, np.arange(12) % 2
    nets = [TorchClassifier(module, random_state=seed, max_epochs=1) for seed in range(3)]
    if alone:
        with pytest.raises(RuntimeError, match="can't be cast"):
            nets[0].fit(X, y)
    else:
        errors = train_together([Member(net, X, y) for net in nets])
        assert all("can't be cast" in str(error) for error in errors)


def test_masks_of_several_networks_are_those_of_each(monkeypatch):
    monkeypatch.setattr(randomness, "_AT_ONCE", 70)  # two networks at a time
    rates, lengths = [0.1, 0.0, 0.5, 1.0, 0.77, 0.99, 0.001], [7, 7, 4, 7, 1, 7, 6]
    n = len(rates)
    for dtype in (torch.float32, torch.bfloat16):
        generators, own = ([torch.Generator().manual_seed(i) for i in range(n)] for _ in range(2))
        for layout in ("rows", "columns"):
            masks, mask = Masks(), torch.full((n, 7, 5), torch.nan, dtype=dtype)
            if layout == "columns":
                mask = mask.mT.contiguous().mT
            for _ in range(2):
                masks.fill_each(mask, rates, lengths, generators)
                for found, rate, length, generator in zip(mask, rates, lengths, own, strict=True):
                    wanted = torch.full((length, 5), 1 - rate, dtype=dtype)
                    if 0 < rate < 1:
                        fill_mask(wanted, rate, generator)
                    assert torch.equal(found[:length], wanted)
                assert mask.isfinite().all()


def test_no_more_than_a_few_rates_are_remembered():
    generator = torch.Generator().manual_seed(0)
    masks, mask = Masks(lambda: generator), torch.empty(2, 3, 4)
    for i in range(1, 200):
        masks(mask, i / 400)
        masks.fill_each(mask, [i / 300, 0.5], [3, 3], [generator] * 2)
    kept = {
        id(value)
        for of_rates in vars(masks).values()
        if isinstance(of_rates, dict)
        for value in of_rates.values()
    }
    assert len(kept) < 150


def test_only_what_may_draw_is_watched():
    class Own(nn.Module):
        pass

    assert not may_draw(MLP(3, 2, normalization="batch"))
    assert not may_draw(nn.Sequential(nn.Conv2d(1, 1, 3), nn.LSTM(2, 2)))
    assert may_draw(MLP(3, 2, dropout=0.1))
    assert may_draw(nn.Sequential(nn.LSTM(2, 2, 2, dropout=0.1)))
    assert may_draw(nn.Sequential(Own()))


def test_draws_before_an_error_leave_the_default_generator_as_it_was():
    def fails_after_a_draw():
        with noticing_draws():
            torch.rand(3)
            raise OSError("unreadable")

    before = torch.get_rng_state()
    with pytest.raises(OSError, match="unreadable"):
        fails_after_a_draw()
    assert torch.equal(torch.get_rng_state(), before)
