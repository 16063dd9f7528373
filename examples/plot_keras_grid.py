"""
A grid over a Keras model
=========================

The builder of a well-known Keras tutorial (one hidden layer for images of digits) in scikit-learn's
own `GridSearchCV`: batch size, epochs and the builder's `units` are parameters alike.
"""

import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split

from skhpo import KerasClassifier
from skhpo.inspection import SlicesDisplay

import keras  # isort: skip (after the estimator, so that it runs on torch)

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X.astype("float32") / 16, y, train_size=1200, stratify=y, random_state=0
)


def create_model(input_shape, units=32):
    # input_shape is inferred from the data; units is a parameter of the estimator.
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input(input_shape),
            layers.Dense(units, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


# %%
# Arguments of the builder and those of training are parameters of the estimator alike:

model = KerasClassifier(build_fn=create_model, verbose=0, random_state=0)
grid = GridSearchCV(model, {"batch_size": [32, 128], "epochs": [3, 6], "units": [8, 32]}, cv=3)
grid.fit(X_train, y_train)

# %%
# The table, best first:

columns = [
    "param_units",
    "param_epochs",
    "param_batch_size",
    "mean_test_score",
    "rank_test_score",
]
results = pd.DataFrame(grid.cv_results_)[columns].sort_values("rank_test_score")
print(results.to_string(index=False, float_format="{:.3f}".format))
print(f"Best: {grid.best_score_:.3f} with {grid.best_params_}")

# %%
# The scores against each parameter. Displays take searches of scikit-learn, too:

SlicesDisplay.from_search(grid)

# %%
# The refitted Keras model, with its history, is the estimator's:

curve = grid.best_estimator_.model.history.history["accuracy"]
print("Its accuracy in training:", " ".join(f"{value:.3f}" for value in curve))
print(f"Accuracy on {len(y_test)} held-out images: {grid.score(X_test, y_test):.3f}")
