"""Training of torch networks, below what scikit-learn and skorch make of it.

Nothing here knows the parameters of an estimator or its checks of data. Each module is public
within the package; a reader begins with the first line.

* ``state``: what is trained, counted and saved. ``engine``: the loop over epochs, checks on rows
  held out, the protocol of runners. ``runners``: those of one network. ``direct``: steps without
  autograd.
* ``data``, ``batches``: arrays as rows, rows as batches, also those of a loader. ``items``,
  ``sequences``, ``sparse``: items of a dataset, rows of different lengths, rows of mostly zeros.
* ``forwarding``: device, precision and arguments of a forward pass.
* ``randomness``, ``initialization``: streams of random numbers, initial weights.
* ``groups``, ``schedule``, ``averaging``: what differs between parameters, between epochs, and in
  predictions.
* ``holdout``, ``structure``: which rows are held out, comparable descriptions of modules.
"""
