"""Training of torch networks, below what scikit-learn and skorch make of it.

Nothing here knows the parameters of an estimator or its checks of data: rows and batches, streams
of random numbers, initial weights, groups of parameters, schedules, precision, checks on rows held
out, checkpoints. Each module is public within the package.
"""
