"""Mistakes of the package are seen, also where it could do without what failed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import skhpo.define_by_run._builders
import skhpo.estimators.building
import skhpo.evaluation._travel
import skhpo.lockstep._members
import skhpo.lockstep._prediction
import skhpo.lockstep._runner
import skhpo.training.direct._graph
import skhpo.training.direct._layers
from skhpo import TorchClassifier
from skhpo.define_by_run import definitions_of
from skhpo.evaluation._scoring import _outputs
from skhpo.evaluation._travel import pack
from skhpo.faults import is_mistake
from skhpo.lockstep import Member, built_for, pays, train_together
from skhpo.self_tuning._module_conversion import functions_of

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Y = np.arange(40) % 2


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(torch.relu(x.flatten(1)))


class Remembering(Own):
    def forward(self, x):
        self.last = x.detach()  # for a look at it later
        return self.layer(x)


class Averaging(Own):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return self.layer(x - self.mean)


class Naming(Own):
    def forward(self, x):
        return self.layer(torch.flatten(input=x, start_dim=1))


def pooling(shape, pool):
    return nn.Sequential(nn.Unflatten(1, shape), pool, nn.Flatten(), nn.LazyLinear(2))


def lines():
    return pooling((1, 4), nn.MaxPool1d(np.int64(2)))


def images():
    return pooling((1, 2, 2), nn.AvgPool2d(np.int64(2)))


def builder(hp):
    return nn.Linear(4, hp.Int("n_units", 2, 4))


class Failing(Own):
    def forward(self, x):
        raise AttributeError("of the user's own")


def net_of(module=Own, k=0, **settings):
    return TorchClassifier(module, max_epochs=1, batch_size=16, random_state=k, **settings)


class Mistaken:
    """Stands for a function or class of the package in which there is a mistake."""

    keeps_output = aliases = False

    def __init__(self, *args, **kwargs):
        raise KeyError("a mistake")


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (skhpo.training.direct._layers.RULES, nn.Linear),
        (skhpo.training.direct._graph, "_trace"),
        (skhpo.training.direct._graph, "_user_structure"),
        (skhpo.training.direct._graph.Graph, "_add_view"),
        (skhpo.training.direct._graph, "_Proxies"),
    ],
    ids=["rule", "trace", "comparison", "view", "tracer"],
)
def test_mistakes_in_rules_do_not_let_autograd_take_over(monkeypatch, place, name):
    if isinstance(place, dict):
        monkeypatch.setitem(place, name, Mistaken)
    else:
        monkeypatch.setattr(place, name, Mistaken)
    with pytest.raises(KeyError, match="a mistake"):
        net_of().fit(X, Y)
    errors = train_together([Member(net_of(k=k), X, Y) for k in range(2)])
    assert {type(error) for error in errors} == {KeyError}


def test_mistakes_of_the_tracer_do_not_make_a_module_untraceable(monkeypatch):
    assert functions_of(Failing()) is None
    assert "relu" in functions_of(Own())
    monkeypatch.setattr(skhpo.training.direct._graph, "_Proxies", Mistaken)
    with pytest.raises(KeyError, match="a mistake"):
        functions_of(Own())


def test_what_fails_in_lockstep_only_is_warned_of(monkeypatch):
    monkeypatch.setattr(skhpo.lockstep._runner.LockstepRunner, "_losses_of_nets", None)
    members = [Member(net_of(k=k), X, Y) for k in range(2)]
    with pytest.warns(RuntimeWarning, match="2 networks were trained one by one.*mistake in skhpo"):
        assert train_together(members) == [None, None]
    for k, member in enumerate(members):
        expected = net_of(k=k).fit(X, Y).predict_proba(X)
        np.testing.assert_array_equal(member.net.predict_proba(X), expected)


@pytest.fixture(scope="module")
def nets():
    return [net_of(k=k).fit(X, Y) for k in range(2)]


@pytest.mark.parametrize(
    ("call", "place", "name"),
    [
        (lambda nets: built_for(net_of(), X, Y), skhpo.estimators.building, "sample_shape"),
        (lambda nets: pays(nets[0], 5), skhpo.lockstep._members, "zeros_for"),
        (lambda nets: _outputs(nets, [X, X]), skhpo.lockstep._prediction, "_key"),
        (lambda nets: pack(nets[0]), skhpo.evaluation._travel, "dumps"),
        (lambda nets: definitions_of(builder), skhpo.define_by_run._builders, "explore"),
    ],
    ids=["probe", "work", "outputs", "pack", "builder"],
)
def test_mistakes_where_the_package_can_do_without_are_warned_of(
    monkeypatch, nets, call, place, name
):
    monkeypatch.setattr(place, name, None)  # which cannot be called
    with pytest.warns(RuntimeWarning, match="mistake in skhpo .*; please report it"):
        call(nets)


@pytest.mark.parametrize("module", [Remembering, Averaging, Naming, lines, images])
def test_what_a_module_may_do_is_no_mistake(module):
    members = [Member(net_of(module, k), X, Y) for k in range(2)]
    assert train_together(members) == [None, None]  # and nothing warns
    alone = net_of(module).fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(members[0].net.predict_proba(X), alone, rtol=1e-4)


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("[][0]", True),
        ("bytearray(2**62)", False),
        ("(lambda x: x)()", False),
        ("object()()", True),
    ],
)
def test_too_little_memory_and_refused_arguments_are_none(line, is_one):
    code = compile(line, str(Path(skhpo.__file__).with_name("line.py")), "exec")
    with pytest.raises((LookupError, MemoryError, TypeError)) as raised:
        exec(code)
    assert is_mistake(raised.value) == is_one


def test_errors_of_the_user_are_none():
    assert built_for(net_of(Failing), X, Y) is None  # and nothing warns
    assert definitions_of(lambda hp: nn.Linear(hp.missing, 1)) is None
    assert definitions_of(lambda hp, width: nn.Linear(width, 1)) is None  # which has no default
    with pytest.raises(ValueError, match="batch_size") as refused:
        net_of().set_params(batch_size=0).fit(X, Y)
    assert not is_mistake(refused.value)
    assert not is_mistake(KeyError("never raised"))
