"""A Gaussian process over a search space, and the choice of the next point.

Notation, here and in the modules below:

* ``n`` observations, ``m`` other points, ``d`` coordinates, ``s`` fantasies;
* ``u``: points of the unit cube, snapped to the cells of discrete parameters, ``(n, n_dims)``;
* ``z``: the same points encoded for the kernel (`coordinates`), ``(n, n_columns)``;
* ``y``: transformed scores, larger is better, ``(n,)`` (`scores`);
* ``D``: squared differences by coordinate of the pairs ``i > j`` of points in the order of
  `numpy.tril_indices`, ``(d, n (n - 1) / 2)``;
* ``r2``: squared distances, the sum of squared differences over squared length scales;
* ``theta``: logarithms of length scales, noise variance and signal variance, ``(d + 2,)``.
"""
