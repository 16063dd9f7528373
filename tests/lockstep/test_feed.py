"""Batches of several networks are those that each network would draw by itself."""

import numpy as np
import pytest
import scipy.sparse
import torch

from skhpo.estimators import MLP, TorchClassifier
from skhpo.lockstep import Member, _feed
from skhpo.lockstep._feed import Feed
from skhpo.lockstep._together import _build
from skhpo.rows import RowSubset

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3)).astype(np.float32)
SUBSETS = [RowSubset(X, RNG.permutation(90)[:n]) for n in (70, 50, 50)]
SPARSE = scipy.sparse.csr_matrix(np.where(X > 0, X, 0))
CASES = {
    "one array": [X, X, X],
    "arrays of different lengths": [X, X[:83], X[:40]],
    "arrays of which two have the same targets": [X, X.copy(), X.copy(), X.copy()],
    "rows of one array": SUBSETS,
    "rows and whole arrays": [X, X.copy(), SUBSETS[0]],
    "rows that are read": [SPARSE, SPARSE[:50]],
}


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_batches_are_those_of_each_network(case, weighted, joined, monkeypatch):
    if not joined:
        monkeypatch.setattr(_feed, "_JOINED_BYTES", {})  # as of large arrays
    runs = []
    for k, inputs in enumerate(CASES[case]):
        y = np.arange(inputs.shape[0]) * (k + 1) % 3
        params = {"sample_weight": RNG.random(len(y))} if weighted else {}
        net = TorchClassifier(MLP, batch_size=16, random_state=k, device="cpu")
        runs.append(_build(k, Member(net, inputs, y, params)))
    own = []
    for run in runs:
        state = run.batches.generator.get_state()
        own.append(list(run.batches.triples()))
        run.batches.generator.set_state(state)
    found = [[] for _ in runs]
    for step, x, y, weight in Feed(runs, True, torch.float32).epoch():
        for row, *part in zip(range(step.start, step.stop), x, y, weight, strict=True):
            found[row].append([tensor.clone() for tensor in part])
    for batches, expected in zip(found, own, strict=True):
        for (x, y, weight), (own_x, own_y, own_weight) in zip(batches, expected, strict=True):
            n = len(own_x)
            own_weight = torch.ones(n) if own_weight is None else own_weight.float()
            assert torch.equal(x[:n], own_x)
            assert torch.equal(y[:n], own_y)
            torch.testing.assert_close(weight[:n], own_weight / n)
            assert not weight[n:].any()
