"""A Gaussian process over a search space, and what is needed to choose the next point with it.

Notation, here and in the modules below:

* ``n`` observations, ``m`` other points, ``d`` coordinates, ``s`` fantasies;
* ``u``: points of the unit cube, snapped to the cells of discrete parameters, ``(n, n_dims)``;
* ``z``: the same as the kernel sees them (`coordinates`), ``(n, n_columns)``;
* ``y``: transformed scores, larger is better, ``(n,)`` (`scores`);
* ``D``: squared differences by coordinate, ``(d, n, n)``; ``r2``: their sum over squared length
  scales, ``(n, m)``;
* ``theta``: logarithms of length scales, noise variance and signal variance, ``(d + 2,)``.
"""
