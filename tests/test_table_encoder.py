"""Tables of mixed columns, and the network that takes them."""

import logging
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skhpo import SearchCV, SelfTuningClassifier, TorchClassifier, TorchRegressor
from skhpo.modules import TabularMLP
from skhpo.preprocessing import EncodedTable, TableEncoder, n_categories_of
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler


@parametrize_with_checks([TableEncoder()])
def test_check_estimator(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    job, town = rng.integers(0, 4, 160), rng.integers(0, 3, 160)
    age = rng.uniform(20, 70, 160)
    y = np.where((job % 2 == 0) == (age > 45), "yes", "no")
    frame = pd.DataFrame(
        {
            "age": np.where(rng.random(160) < 0.1, np.nan, age),
            "job": pd.Series(np.array(["cook", "nurse", "smith", "clerk"])[job], dtype=object),
            "town": pd.Categorical.from_codes(town, ["Ulm", "Bonn", "Kiel"]),
            "here": town == 1,
        }
    )
    frame.loc[::17, "job"] = None
    return frame, y


@pytest.fixture(scope="module")
def fitted(people):
    X, y = people
    return make_pipeline(
        TableEncoder(), TorchClassifier(TabularMLP, lr=0.02, max_epochs=25, random_state=0)
    ).fit(X, y)


def test_rare_categories_of_many_count_as_one():
    n_rows = np.repeat([12, 10, 9, 1], [2, 2, 2, 17])
    many = np.repeat([f"level {i:02}" for i in range(len(n_rows))], n_rows).astype(object)
    few = np.array([f"level {i:02}" for i in range(20)] * len(many), dtype=object)[: len(many)]
    few[20:] = few[0]
    table = np.column_stack([few, many])
    assert TableEncoder(min_frequency=None).fit(table).n_categories_ == (22, 25)
    encoder = TableEncoder().fit(table)
    assert encoder.n_categories_ == (22, 7)
    found = encoder.transform(table)[:, 1]
    assert found[: -sum(n_rows[4:])].tolist() == [2] * 12 + [3] * 12 + [4] * 10 + [5] * 10
    assert set(found[-sum(n_rows[4:]) :]) == {6}
    assert encoder.transform(np.array([["level 00", "new"]], dtype=object))[0, 1] == 0


def test_columns(people):
    X, _ = people
    encoder = TableEncoder().fit(X)
    table = encoder.transform(X)
    names = ["job", "town", "age", "here", "missingindicator_age"]
    assert encoder.get_feature_names_out().tolist() == names
    assert encoder.n_categories_ == table.n_categories == (6, 5)
    missing = X["age"].isna().to_numpy()
    np.testing.assert_array_equal(table[~missing, 2], X["age"][~missing])
    np.testing.assert_allclose(table[missing, 2], X["age"].mean())
    np.testing.assert_array_equal(table[:, 4], missing)
    np.testing.assert_array_equal(table[:, 0] == 1, X["job"].isna())
    for name, column in (("job", 0), ("town", 1)):
        known = X[name].notna().to_numpy()
        pairs = set(zip(X[name][known], np.asarray(table)[known, column], strict=True))
        assert [code for _, code in sorted(pairs)] == list(range(2, 2 + len(pairs)))


def test_what_fit_has_not_seen(people):
    X, _ = people
    encoder = TableEncoder().fit(X)
    other = X[:2].assign(job=["pilot", None], town=[None, "Rome"], here=[None, True])
    np.testing.assert_array_equal(encoder.transform(other)[:, :2], [[0, 0], [1, 0]])
    assert encoder.transform(other)[0, 3] == X["here"].mean()


@pytest.mark.parametrize(
    "dtypes",
    [
        {"age": "Float64", "job": "string", "here": "boolean"},
        {"job": "category", "town": object, "here": object},
    ],
    ids=["nullable", "objects"],
)
def test_other_types_of_columns_are_encoded_alike(people, dtypes):
    X, _ = people
    encoder = TableEncoder().fit(X)
    other = X.astype(dtypes)
    np.testing.assert_array_equal(encoder.transform(other), encoder.transform(X))
    np.testing.assert_array_equal(TableEncoder().fit_transform(other), encoder.transform(X))


@pytest.mark.parametrize("library", ["polars", "pyarrow", "pandas with pyarrow"])
def test_other_libraries(people, library):
    name = library.split()[-1]
    pytest.importorskip(name)
    X, _ = people
    wanted = TableEncoder().fit_transform(X)
    if library == "polars":
        X = __import__("polars").from_pandas(X)
    elif library == "pyarrow":
        X = __import__("pyarrow").Table.from_pandas(X)
    else:
        X = X.convert_dtypes(dtype_backend="pyarrow")
    np.testing.assert_array_equal(TableEncoder().fit_transform(X), wanted)


def test_arrays_of_objects_and_of_numbers(people):
    X, _ = people
    wanted = TableEncoder().fit_transform(X)
    found = TableEncoder().fit(X.to_numpy(dtype=object))
    np.testing.assert_array_equal(found.transform(X.to_numpy(dtype=object)), wanted)
    assert found.get_feature_names_out()[0] == "x1"
    rows = X.to_numpy(dtype=object).tolist()
    np.testing.assert_array_equal(TableEncoder().fit_transform(rows), wanted)
    codes = np.array([[3.0, 0.5], [1.0, 0.1], [3.0, np.nan]])
    encoder = TableEncoder(categorical_features=[0]).fit(codes)
    assert encoder.transform(codes).tolist() == [[3, 0.5, 0], [2, 0.1, 0], [3, 0.3, 1]]


def test_rare_categories_count_as_one():
    X = pd.DataFrame({"town": [*"aaabbbcd", None]})
    for rare in ({"min_frequency": 2}, {"max_categories": 3}):
        codes = TableEncoder(**rare).fit_transform(X)[:, 0]
        assert codes[6] == codes[7] not in codes[:6]
        assert codes[8] == 1


def test_a_frame_keeps_the_categories(people):
    X, y = people
    encoder = TableEncoder().set_output(transform="pandas").fit(X)
    frame = encoder.transform(X[::-1])
    assert frame.index.equals(X.index[::-1])
    assert n_categories_of(frame) == (6, 5)
    np.testing.assert_array_equal(
        frame.astype(float), encoder.set_output(transform="default").transform(X[::-1])
    )
    HistGradientBoostingClassifier(max_iter=2, categorical_features="from_dtype").fit(frame, y)


def test_rows_keep_the_numbers_of_categories_and_nothing_else_does():
    table = EncodedTable(np.arange(6.0).reshape(3, 2), (9,))
    kept = (table[1:], table[[0, 2]], table[np.array([True, False, True])], table[[1], ...])
    assert [part.n_categories for part in (*kept, pickle.loads(pickle.dumps(table)))] == 5 * [(9,)]
    lost = (table[:, ::-1], table[:, [1, 0]], table + 1, table.T, table[0])
    assert [n_categories_of(part) for part in lost] == [None] * 5


def test_a_pipeline_learns_from_categories(people, fitted):
    X, y = people
    assert fitted.score(X, y) > 0.9
    net = fitted[-1]
    assert net.module_.table.embedding.num_embeddings == 1 + 5 + 4
    assert (net.module_.table.embedding.weight[0] == 0).all()
    again = clone(fitted).fit(X, y)
    for other in (again, pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))
    unseen = X[:4].assign(job="pilot")
    assert np.isfinite(fitted.predict_proba(unseen)).all()


def test_a_frame_trains_the_same_network(people, fitted):
    X, y = people
    other = clone(fitted).set_output(transform="pandas").fit(X, y)
    np.testing.assert_allclose(
        other.predict_proba(X), fitted.predict_proba(X), rtol=1e-4, atol=1e-6
    )


def test_checkpoints(people, fitted, tmp_path):
    X, _ = people
    table = fitted[0].transform(X)
    fitted[-1].save_checkpoint(tmp_path / "net")
    other = clone(fitted[-1]).load_checkpoint(tmp_path / "net")
    np.testing.assert_array_equal(other.predict_proba(table), fitted[-1].predict_proba(table))


@pytest.mark.parametrize("lockstep", [False, True])
def test_searches(people, lockstep, caplog):
    X, y = people
    caplog.set_level(logging.DEBUG, "skhpo")
    net = TorchClassifier(TabularMLP, max_epochs=3, random_state=0)
    model = make_pipeline(TableEncoder(), net)
    grid = {
        "torchclassifier__lr": [0.02, 0.005],
        "torchclassifier__module__embedding_size": [2],
        "tableencoder__imputation": ["mean", "median"],
    }

    def all_of(space, random_state):
        return FullScheduler(RandomSampler(space, random_state), 4)

    search = SearchCV(model, grid, scheduler=all_of, cv=2, random_state=0, lockstep=lockstep)
    search.fit(X, y)
    assert ("in lockstep" in caplog.text) is lockstep
    oracle = GridSearchCV(model, grid, cv=2).fit(X, y)
    by_params = [
        {str(sorted(p.items())): s for p, s in zip(r["params"], r["mean_test_score"], strict=True)}
        for r in (search.cv_results_, oracle.cv_results_)
    ]
    assert by_params[0] == pytest.approx(by_params[1], abs=1e-6)


def test_regression_and_a_table_of_one_kind():
    X = pd.DataFrame({"town": list("abc") * 10, "size": np.arange(30.0)})
    for part in (X, X[["town"]], X[["size"]]):
        model = make_pipeline(TableEncoder(), TorchRegressor(TabularMLP, max_epochs=1))
        assert model.fit(part, np.arange(30.0)).predict(part).shape == (30,)


def test_a_self_tuning_network_takes_it(people):
    X, y = people
    net = SelfTuningClassifier(TabularMLP, max_epochs=2, warmup_epochs=1, random_state=0)
    assert make_pipeline(TableEncoder(), net).fit(X, y).predict(X).shape == y.shape


def test_sizes_that_nobody_knows(people):
    X, y = people
    table = np.asarray(TableEncoder().fit_transform(X))
    with pytest.raises(ValueError, match=r"must know the `n_categories`.*TableEncoder"):
        TorchClassifier(TabularMLP).fit(table, y)
    net = TorchClassifier(TabularMLP, module__n_categories=(6, 5), max_epochs=1).fit(table, y)
    assert net.module_.table.n_categories == (6, 5)


@pytest.mark.parametrize(
    ("n_categories", "embedding_size", "message"),
    [((0,), 4, "n_categories must have"), ((2, 2, 2), 4, "at most 2"), ((2,), 0, "embedding_size")],
)
def test_bad_arguments_of_the_module(n_categories, embedding_size, message):
    with pytest.raises(ValueError, match=message):
        TabularMLP(2, 1, n_categories=n_categories, embedding_size=embedding_size)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), r"'a' is of the type datetime64.*dates.min"),
        ([[1], [2]], "'a' is of the type list"),
        (["x", 1], "'a' of X must have categories of one type"),
        ([1.0, np.inf], "'a' of X must be finite"),
    ],
    ids=["dates", "lists", "mixed", "infinite"],
)
def test_bad_columns(column, message):
    with pytest.raises(ValueError, match=message):
        TableEncoder().fit(pd.DataFrame({"a": column}))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (["b"], "'b' is none of"),
        ([1], "has 1"),
        ([0.5], "has 0.5"),
        ([True, False], "a value for each of the 1"),
    ],
)
def test_bad_categorical_features(features, message):
    with pytest.raises(ValueError, match=message):
        TableEncoder(categorical_features=features).fit(pd.DataFrame({"a": [1.0, 2.0]}))


def test_a_table_without_columns(people):
    with pytest.raises(ValueError, match="at least one column, but has none"):
        TableEncoder().fit(people[0][[]])


def test_a_column_that_no_longer_is_of_numbers(people):
    X, _ = people
    with pytest.raises(ValueError, match="'age' of X must be of numbers, but has 'old'"):
        TableEncoder().fit(X).transform(X[:1].assign(age="old"))
