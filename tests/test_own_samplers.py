"""Samplers and schedulers of one's own: names, and the example that shows how to write them."""

import ast
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scipy.stats import loguniform
from sklearn.datasets import load_iris
from sklearn.linear_model import SGDClassifier

from skhpo import HalvingHyperbandSearchCV, SearchSpace
from skhpo.samplers import RandomSampler, base, register

EXAMPLE = Path(__file__).parents[1] / "examples" / "plot_own_sampler.py"


def classes_of(path):
    """Import a script without what it computes: its imports and its classes."""
    tree = ast.parse(path.read_text())
    tree.body = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom | ast.ClassDef)]
    module = sys.modules[path.stem] = ModuleType(path.stem)
    exec(compile(tree, path, "exec"), vars(module))
    return module


example = classes_of(EXAMPLE)
TestTPE, TestDEHB = example.TestTPE, example.TestDEHB


X, y = load_iris(return_X_y=True)
SPACE = {"alpha": loguniform(1e-5, 1)}


@pytest.fixture
def names(monkeypatch):
    monkeypatch.setattr(base, "_known", dict(base._known))


def test_the_example_finds_good_configurations(names, capsys):
    plt = pytest.importorskip("matplotlib.pyplot")
    code = EXAMPLE.read_text().replace("max_resources=27", "max_resources=9")
    exec(compile(code, EXAMPLE, "exec"), {"__name__": "example"})
    plt.close("all")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["Hyperband with TPE", "DEHB"]
    assert all(float(line.partition(":")[2].split()[0]) > 0.95 for line in lines)


def alphas(sampler, seed=0):
    search = HalvingHyperbandSearchCV(
        SGDClassifier(random_state=0),
        SPACE,
        resource="max_iter",
        max_resources=3,
        cv=2,
        sampler=sampler,
        enqueue=(),
        random_state=seed,
        refit=False,
    )
    return search.fit(X, y).cv_results_["param_alpha"].tolist()


class Constant(RandomSampler):
    def sample(self, n):
        return [{"alpha": 0.5} for _ in range(n)]


def test_a_name_a_class_an_instance_and_a_function_are_the_same(names):
    register("constant", Constant)
    register("constant", type("Constant", (Constant,), {"__module__": __name__}))  # defined again
    instance = Constant(SearchSpace(SPACE), 0)
    for sampler in ("constant", Constant, instance, lambda space, seed: Constant(space, seed)):
        assert set(alphas(sampler)) == {0.5}


def test_an_instance_is_copied():
    sampler = RandomSampler(SearchSpace(SPACE), 7)
    assert alphas(sampler) == alphas(sampler, seed=1)
    assert sampler.sample(1) == RandomSampler(SearchSpace(SPACE), 7).sample(1)


def test_what_no_sampler_can_be_is_refused(names):
    with pytest.raises(
        ValueError, match=r"names \['auto', 'bayes', 'random'\].*'baies'.*mean 'bayes'.*reg"
    ):
        alphas("baies")
    with pytest.raises(ValueError, match="must have the space of the search"):
        alphas(RandomSampler(SearchSpace({"alpha": loguniform(1e-3, 1)})))
    with pytest.raises(ValueError, match=r"'random' is .* already; choose another name"):
        register("random", Constant)
    with pytest.raises(ValueError, match=r"'auto' leaves the choice .*; choose another name"):
        register("auto", Constant)
    with pytest.raises(TypeError, match="make must be callable"):
        register("other", 3)
