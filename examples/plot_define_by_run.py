"""
Random search and Hyperband over a define-by-run model
======================================================

A builder asks ``hp`` for what it needs, in loops and under conditions, as in keras-tuner;
`distributions_of` finds what it may ask for. scikit-learn's random search takes that as it is, and
Hyperband finds it by itself with ``param_distributions="model"``.
"""

import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import RandomizedSearchCV, ShuffleSplit, train_test_split

from skhpo import HalvingHyperbandSearchCV, KerasClassifier, SearchSpace, distributions_of
from skhpo.inspection import SearchCurvesDisplay

import keras  # isort: skip (after the estimator, so that it runs on torch)

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X.astype("float32") / 16, y, train_size=900, stratify=y, random_state=0
)


def build(hp, input_shape):
    layers = keras.layers
    stack = [layers.Input(input_shape)]
    for i in range(hp.Int("n_layers", 1, 2)):
        stack.append(layers.Dense(hp.Int(f"units_{i}", 8, 64, step=8), activation="relu"))
    if hp.Boolean("drop"):
        stack.append(layers.Dropout(hp.Float("rate", 0.1, 0.8)))
    model = keras.Sequential([*stack, layers.Dense(10, activation="softmax")])
    rate = hp.Float("lr", 1e-5, 1.0, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    return model


# %%
# The space has a dict for each branch: one layer or two, with dropout or without.

space = distributions_of(build, input_shape=X.shape[1:])
print(SearchSpace(space))

# %%
# Hyperband, rung by rung
# -----------------------

model = KerasClassifier(build, batch_size=64)
holdout = ShuffleSplit(1, test_size=0.3, random_state=0)
hyperband = HalvingHyperbandSearchCV(
    model,
    "model",
    resource="epochs",
    max_resources=27,
    n_brackets=2,
    cv=holdout,
    random_state=0,
)
hyperband.fit(X_train, y_train)
results = pd.DataFrame(hyperband.cv_results_)
per_rung = results.groupby(["bracket", "n_resources"])["mean_test_score"]
print(per_rung.agg(["size", "max"]).to_string(float_format="{:.3f}".format))
print(f"Best: {hyperband.best_score_:.3f} with {hyperband.best_params_}")
SearchCurvesDisplay.from_search(hyperband)

# %%
# Random search with as many epochs
# ---------------------------------
# With so few candidates of full length random search depends on luck in a wide space. Where half of
# all candidates are good, or a few epochs are all there is, it does as well.

epochs = results.groupby("candidate")["n_resources"].max().sum()
n_iter = round(epochs / 27)
random = RandomizedSearchCV(
    KerasClassifier(build, batch_size=64, epochs=27),
    space,
    n_iter=n_iter,
    cv=holdout,
    random_state=0,
)
random.fit(X_train, y_train)
print(f"{n_iter} x 27 epochs: {random.best_score_:.3f}")
print(f"accuracy on {len(y_test)} new images")
print(f"  random search {random.score(X_test, y_test):.3f}")
print(f"  Hyperband     {hyperband.score(X_test, y_test):.3f}")

# %%
# What was found is a setting of the estimator like any other:

again = KerasClassifier(build, batch_size=64, epochs=27, random_state=0)
again.set_params(**hyperband.best_params_).fit(X_train, y_train)
print(f"its settings under another seed {again.score(X_test, y_test):.3f}")
