"""Descriptions are the same for equal things, in any process, and differ for others."""

import dataclasses
import functools
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import loguniform, randint, uniform
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from skhpo import log_randint
from skhpo.fingerprint import describe, differences


def seeded_module():
    module = nn.Linear(2, 2)
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(0.5)
    return module


class Counting(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.count = count

    def get_extra_state(self):
        return {"count": self.count}


class InSlots:
    __slots__ = ("limit",)

    def __init__(self, limit):
        self.limit = limit

    def __call__(self, params):
        return params["depth"] > self.limit


class Stateless:
    def __call__(self, params):
        return params["depth"] > 3


class InBoth(InSlots):
    def __init__(self, limit, other):
        super().__init__(limit)
        self.other = other


@dataclasses.dataclass(slots=True)
class Fields:
    limit: object


THINGS = {
    "numbers": lambda: [1, 1.0, True, None, "1", float("nan"), np.float64(2), np.int64(3)],
    "distribution": lambda: {"a": uniform(0, 1), "b": loguniform(1e-3, 1)},
    "other distribution": lambda: {"a": uniform(0, 2), "b": randint(1, 9)},
    "log_randint": lambda: log_randint(1, 10),
    "estimator": lambda: make_pipeline(StandardScaler(), SVC(C=2)),
    "other estimator": lambda: make_pipeline(StandardScaler(), SVC(C=3)),
    "scorer": lambda: make_scorer(accuracy_score, normalize=False),
    "splitter": lambda: StratifiedKFold(3, shuffle=True, random_state=0),
    "other splitter": lambda: KFold(3),
    "array": lambda: np.arange(6).reshape(2, 3),
    "other array": lambda: np.arange(6).reshape(3, 2),
    "lambda": lambda: [lambda x: x + 1],
    "other lambda": lambda: [lambda x: x + 2],
    "method": lambda: Counting(1).get_extra_state,
    "method of another": lambda: Counting(2).get_extra_state,
    "method without a name": lambda: types.MethodType(functools.partial(max, 1), 2),
    "built-in method": lambda: {3, 4}.__contains__,
    "built-in method of another": lambda: {3, 5}.__contains__,
    "no attributes": lambda: Stateless(),
    "method of what has no attributes": lambda: Stateless().__call__,
    "slots": lambda: InSlots(1),
    "other slots": lambda: InSlots(2),
    "slots of a base": lambda: InBoth(1, 3),
    "other slots of a base": lambda: InBoth(2, 3),
    "slots of a data class": lambda: Fields(InSlots(1)),
    "path": lambda: (Path("a/b"), Path("a/b").parent)[0],
    "class": lambda: nn.Linear,
    "module": seeded_module,
    "lazy module": lambda: nn.Sequential(nn.LazyLinear(2)),
    "module of bfloat16": lambda: seeded_module().bfloat16(),
    "module with a state of its own": lambda: Counting(1),
    "other state": lambda: Counting(2),
    "tensor": lambda: {"weight": torch.tensor([1.0, 2.0])},
    "other tensor": lambda: {"weight": torch.tensor([1.0, 3.0])},
    "number as a tensor": lambda: torch.tensor(1, dtype=torch.float64),
    "sparse tensor": lambda: torch.eye(2).to_sparse(),
    "file": lambda: {"sink": sys.__stdout__},
    "set": lambda: {"b", "a"},
    "generator": lambda: np.random.RandomState(0),
}


def all_described():
    return {name: json.dumps(describe(make())) for name, make in THINGS.items()}


def test_equal_things_are_described_alike_and_others_not():
    once, again = all_described(), all_described()
    assert once == again
    assert len(set(once.values())) == len(once)


def test_another_process_gives_the_same_descriptions():
    code = (
        f"import importlib.util as u, json; s = u.spec_from_file_location('t', {__file__!r}); "
        "m = u.module_from_spec(s); s.loader.exec_module(m); print(json.dumps(m.all_described()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    theirs = json.loads(out.stdout)
    ours = all_described()
    # A module that was loaded under another name has that name in its functions.
    assert {k: v.replace('"t.', f'"{__name__}.') for k, v in theirs.items()} == ours


def test_what_refers_to_itself_ends():
    loop = []
    loop.append(loop)
    json.dumps(describe(loop))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("a", 1, 2)]),
        ({"a": {"b": [1]}}, {"a": {"b": [2]}}, [("a.b", [1], [2])]),
        ({"a": 1}, {"b": 1}, [("a", 1, "(absent)"), ("b", "(absent)", 1)]),
    ],
)
def test_differences(old, new, expected):
    assert list(differences(old, new)) == expected
