"""The hash of code changes when what it does may have, and at no other time."""

import copy
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
from scipy.stats import uniform
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score
from sklearn.svm import SVC
from torch import nn

from skhpo import SearchCV, TorchClassifier
from skhpo.exceptions import JournalError
from skhpo.fingerprint import describe, hash_of_code
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

BEFORE = """
import functools
import logging
import operator
import torch
from torch import nn

WIDTH = 4
SEEN = []
N_CALLS = 0

def halved(x):
    return x / 2

def helper(x):
    def inner(z):
        return z - 3
    logging.getLogger(__name__).debug(__file__)
    return halved(inner(x))

def louder(function):
    @functools.wraps(function)
    def louder_still(*args):
        return function(*args) * 7
    return louder_still

class Base(nn.Module):
    def shared(self, x):
        return x * 5

class Net(Base):
    '''A docstring.'''
    slope = 0.5
    n_steps = 0

    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    @property
    def middle(self):
        return 11

    @functools.cached_property
    def lazy(self):
        return 17

    @staticmethod
    @functools.cache
    def table():
        return {"a", "b", "c"}

    @louder
    def raised(self, x):
        return operator.pos(x)

    @torch.no_grad()
    def forward(self, x):
        global N_CALLS
        N_CALLS += 1
        self.n_steps += 1
        SEEN.append(x in {"d", "e", "f"})
        return helper(self.linear(x)) + sum(v * 13 for v in range(WIDTH))
"""


def net_of(source, name="Net", module="mine"):
    space = {"__name__": module, "__file__": f"/home/me/{module}.py"}
    exec(compile(source, "<mine>", "exec"), space)
    return space[name]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("WIDTH = 4", "WIDTH = 5"),
        ("x / 2", "x / 3"),
        ("z - 3", "z - 4"),
        ("* 7", "* 8"),
        ("x * 5", "x * 6"),
        ("Net(Base)", "Net(nn.Module)"),
        ("slope = 0.5", "slope = 0.25"),
        ("bias=True", "bias=False"),
        ("return 11", "return 12"),
        ("return 17", "return 18"),
        ('"a", "b", "c"', '"a", "b", "z"'),
        ("operator.pos", "operator.neg"),
        ("v * 13", "v * 14"),
        ("SEEN.append", "SEEN.extend"),
    ],
)
def test_what_changes_it(old, new):
    assert BEFORE.count(old) == 1
    assert hash_of_code(net_of(BEFORE)) != hash_of_code(net_of(BEFORE.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A docstring", "Another one"),
        ("    slope = 0.5", "\n\n    # the slope\n    slope = 0.5"),
        ("return helper(self.linear(x)) +", "return helper(self.linear( x )) + "),
        ("def halved", "def unused(): pass\n\ndef halved"),
        ("SEEN = []", "SEEN = [1]"),
        ("N_CALLS = 0", "N_CALLS = 5"),
    ],
)
def test_what_does_not(old, new):
    assert old in BEFORE
    assert hash_of_code(net_of(BEFORE)) == hash_of_code(net_of(BEFORE.replace(old, new)))
    assert hash_of_code(net_of(BEFORE)) == hash_of_code(net_of(BEFORE, module="moved"))


def test_running_does_not_change_it():
    helper, counting = net_of(BEFORE, "helper"), net_of(BEFORE)
    before = hash_of_code(helper), hash_of_code(counting)
    for i in range(100):  # long enough for the interpreter to specialise it
        helper(i)
    counting.n_steps = 9
    assert (hash_of_code(helper), hash_of_code(counting)) == before


class Doubled(nn.Module):
    """Is copied as it is here, where pickles find it."""

    def forward(self, x):
        return 2 * x


class Scorer:
    def __call__(self, estimator, X, y):
        return 0.0


@pytest.mark.parametrize("cls", [Doubled, Scorer])
def test_copies_of_instances_do_not_change_it(cls):
    before = hash_of_code(cls)
    copy.deepcopy(cls())
    pickle.dumps(cls())
    assert hash_of_code(cls) == before


def test_parts_of_a_network_count():
    def network(cls):
        return describe(nn.Sequential(cls(), nn.ReLU()))

    source = (
        "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        return "
    )
    once, again, other = (network(net_of(source + body)) for body in ("x", "x", "-x"))
    assert once == again
    assert other != once


def test_another_process_gives_the_same():
    code = "import test_own_code as t; print(t.hash_of_code(t.net_of(t.BEFORE)))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {__file__[:-17]!r}); {code}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == hash_of_code(net_of(BEFORE))


def test_what_is_installed_has_none():
    assert hash_of_code(SVC) is None
    assert hash_of_code(accuracy_score) is None  # in a decorator that says what it wraps
    assert hash_of_code(nn.Linear) is None
    assert hash_of_code(dict) is None
    assert hash_of_code(TorchClassifier) is None
    assert hash_of_code(lambda x: x) is not None


def test_what_refers_to_itself_and_to_many_ends():
    chain = "\n".join(f"def f{i}(x): return f{i + 1}(x)" for i in range(2000))
    assert hash_of_code(net_of(chain + "\ndef f2000(x): return f0(x)", "f0"))


def test_what_cannot_be_read_is_a_warning(monkeypatch):
    module = types.ModuleType("extension")
    module.__file__ = "/home/me/extension.so"
    monkeypatch.setitem(sys.modules, "extension", module)
    compiled = type("Compiled", (), {"__module__": "extension"})
    with pytest.warns(UserWarning, match=r"code of extension\.Compiled cannot be read"):
        assert hash_of_code(compiled) is None


X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)


def three(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), 3)


def scorer_of(power):
    return lambda estimator, X, y: estimator.score(X, y) ** power


def test_a_journal_does_not_answer_for_other_code(tmp_path):
    source = (
        "from torch import nn\nclass Net(nn.Linear):\n    def forward(self, x):\n        return "
    )

    def search(body="super().forward(x)", power=2, path="a"):
        net = TorchClassifier(net_of(source + body), max_epochs=1)
        kwargs = {"scheduler": three, "cv": 2, "refit": False, "random_state": 0}
        scoring = scorer_of(power)
        return SearchCV(
            net, {"lr": uniform()}, scoring=scoring, journal=tmp_path / path, **kwargs
        ).fit(X, y)

    search()
    search()
    with pytest.raises(JournalError, match=r"estimator\.params\.module\.code: '3\..*, now '3\."):
        search("super().forward(x) + x.sum()")
    with pytest.raises(JournalError, match=r"settings\.scoring\.closure: \[2\] .*, now \[3\]"):
        search(power=3)
