"""Streams that belong to one fit."""

import random
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skhpo.estimators import MLP, TorchClassifier
from skhpo.training.randomness import OwnGenerators, Stream, may_draw, noticing_draws


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
        lambda x: nn.Dropout2d(0.5)(x[None, None]),
        lambda x: nn.Dropout3d(0.5)(x[None, None, None]),
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


def test_own_dropout_is_that_of_torch():
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
    stream = Stream(5, "forward")
    generator = torch.Generator()
    generator.set_state(stream.generator().get_state())
    with OwnGenerators(stream):
        own = F.dropout(x, 0.3)
    before = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    of_torch = F.dropout(x, 0.3)
    torch.set_rng_state(before)
    # Two implementations, that may divide by what is kept before or after.
    torch.testing.assert_close(own, of_torch)


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
