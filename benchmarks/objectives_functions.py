"""Functions of several objectives and constraints.

``REPORTED`` are those of the table; ``DEVELOPMENT`` are others, on which the settings of
`skhpo.samplers.BayesSampler` for several objectives were chosen. All are minimised in the
literature, and by the peers; a call returns them with the signs changed. Reference points are those
of BoTorch's test functions where it has the function.
"""

import numpy as np
from scipy import stats

from skhpo import SearchSpace


class Function:
    """Objectives that are minimised, and violations of constraints, of a point of a box.

    Parameters
    ----------
    bounds : list of (float, float)
    objectives : callable
        From an array of shape (n_dims,) to the objectives.
    reference : list of float
        Reference point of the hypervolume, in the objectives.
    best : float, default=None
        The largest hypervolume, where it is known.
    violations : callable, default=None
        From an array to violations, at most 0 where a constraint holds.
    """

    def __init__(self, bounds, objectives, reference, best=None, violations=None):
        self.bounds, self.objectives = bounds, objectives
        self.reference, self.best, self.violations = reference, best, violations

    @property
    def axes(self):
        """As of the tasks of one objective."""
        return {f"x{i}": ("float", low, high) for i, (low, high) in enumerate(self.bounds)}

    @property
    def space(self):
        return SearchSpace(
            {name: stats.uniform(low, high - low) for name, (_, low, high) in self.axes.items()}
        )

    def __call__(self, params):
        """Values, maximised, and violations, an empty list without constraints."""
        x = np.array([params[name] for name in self.axes])
        values = [-float(value) for value in self.objectives(x)]
        broken = [] if self.violations is None else [float(v) for v in self.violations(x)]
        return values, broken


def _zdt(n_dims, second):
    """ZDT: g grows with the mean of all parameters but the first (Zitzler et al., 2000)."""

    def objectives(x):
        g = 1.0 + 9.0 * x[1:].mean()
        return x[0], g * second(x[0] / g, x[0])

    return [(0.0, 1.0)] * n_dims, objectives, [11.0, 11.0]


def _zdt6(x):
    first = 1.0 - np.exp(-4.0 * x[0]) * np.sin(6.0 * np.pi * x[0]) ** 6
    g = 1.0 + 9.0 * x[1:].mean() ** 0.25
    return first, g * (1.0 - (first / g) ** 2)


def _dtlz2(x, n_objectives=3):
    """DTLZ2, a sphere of radius 1 + distance (Deb et al., 2002)."""
    k = n_objectives - 1
    radius = 1.0 + ((x[k:] - 0.5) ** 2).sum()
    angles = x[:k] * np.pi / 2.0
    values = []
    for m in range(n_objectives):
        value = radius * np.cos(angles[: k - m]).prod()
        values.append(value * np.sin(angles[k - m]) if m else value)
    return values


def _dtlz7(x):
    g = 1.0 + 9.0 * x[2:].mean()
    h = 3.0 - sum(f / (1.0 + g) * (1.0 + np.sin(3.0 * np.pi * f)) for f in x[:2])
    return x[0], x[1], (1.0 + g) * h


def _branin_currin(x):
    """Branin and Currin functions on the unit square."""
    a, b = 15.0 * x[0] - 5.0, 15.0 * x[1]
    branin = (b - 5.1 / (4.0 * np.pi**2) * a**2 + 5.0 / np.pi * a - 6.0) ** 2
    branin += 10.0 * (1.0 - 1.0 / (8.0 * np.pi)) * np.cos(a) + 10.0
    factor = 1.0 - np.exp(-1.0 / (2.0 * x[1])) if x[1] > 0.0 else 1.0
    above = 2300.0 * x[0] ** 3 + 1900.0 * x[0] ** 2 + 2092.0 * x[0] + 60.0
    below = 100.0 * x[0] ** 3 + 500.0 * x[0] ** 2 + 4.0 * x[0] + 20.0
    return branin, factor * above / below


def _disk(x):
    return [(15.0 * x[0] - 7.5) ** 2 + (15.0 * x[1] - 7.5) ** 2 - 50.0]


def _welded_beam(x):
    """Cost and deflection of a welded beam (Deb and Sundar, 2006)."""
    weld, length, height, width = x
    cost = 1.10471 * weld**2 * length + 0.04811 * height * width * (14.0 + length)
    return cost, 2.1952 / (width * height**3)


def _welded_beam_violations(x):
    weld, length, height, width = x
    load, overhang = 6000.0, 14.0
    radius = np.sqrt(0.25 * (length**2 + (weld + height) ** 2))
    moment = load * (overhang + length / 2.0)
    inertia = length**2 / 12.0 + 0.25 * (weld + height) ** 2
    inertia *= 2.0 * np.sqrt(0.5) * weld * length
    shear, torsion = load / (np.sqrt(2.0) * weld * length), moment * radius / inertia
    stress = np.sqrt(shear**2 + torsion**2 + shear * torsion * length / radius)
    bending = 6.0 * load * overhang / (width * height**2)
    buckling = 64746.022 * (1.0 - 0.0282346 * height) * height * width**3
    return [
        (stress - 13600.0) / 13600.0,
        (bending - 30000.0) / 30000.0,
        (weld - width) / (5.0 - 0.125),
        (load - buckling) / load,
    ]


def _vlmop2(x):
    shift = 1.0 / np.sqrt(len(x))
    return [1.0 - np.exp(-((x - sign * shift) ** 2).sum()) for sign in (1.0, -1.0)]


def _kursawe(x):
    first = -10.0 * np.exp(-0.2 * np.sqrt(x[:-1] ** 2 + x[1:] ** 2)).sum()
    return first, (np.abs(x) ** 0.8 + 5.0 * np.sin(x**3)).sum()


def _osy(x):
    """Osyczka and Kundu's problem of six parameters and six constraints."""
    first = -(25.0 * (x[0] - 2) ** 2 + (x[1] - 2) ** 2 + (x[2] - 1) ** 2)
    return first - (x[3] - 4) ** 2 - (x[4] - 1) ** 2, (x**2).sum()


def _osy_violations(x):
    return [
        (2.0 - x[0] - x[1]) / 2.0,
        (x[0] + x[1] - 6.0) / 6.0,
        (x[1] - x[0] - 2.0) / 2.0,
        (x[0] - 3.0 * x[1] - 2.0) / 2.0,
        ((x[2] - 3.0) ** 2 + x[3] - 4.0) / 4.0,
        (4.0 - (x[4] - 3.0) ** 2 - x[5]) / 4.0,
    ]


def _srn(x):
    return 2.0 + (x[0] - 2) ** 2 + (x[1] - 1) ** 2, 9.0 * x[0] - (x[1] - 1) ** 2


def _srn_violations(x):
    return [(x[0] ** 2 + x[1] ** 2) / 225.0 - 1.0, (x[0] - 3.0 * x[1] + 10.0) / 10.0]


def _constr(x):
    return x[0], (1.0 + x[1]) / x[0]


def _constr_violations(x):
    return [(6.0 - x[1] - 9.0 * x[0]) / 6.0, 1.0 + x[1] - 9.0 * x[0]]


def _tnk_violations(x):
    """Two disjoint fronts on a wave around the origin (Tanaka and others, 1995)."""
    wave = 0.1 * np.cos(16.0 * np.arctan2(x[0], x[1]))
    return [1.0 + wave - (x**2).sum(), ((x - 0.5) ** 2).sum() - 0.5]


def _disc_brake(x):
    """Mass and stopping time of a disc brake (Ray and Liew, 2002)."""
    area = x[1] ** 2 - x[0] ** 2
    volume = x[1] ** 3 - x[0] ** 3
    return 4.9e-5 * area * (x[3] - 1.0), 9.82e6 * area / (x[2] * x[3] * volume)


def _disc_brake_violations(x):
    area, volume = x[1] ** 2 - x[0] ** 2, x[1] ** 3 - x[0] ** 3
    return [
        (x[0] + 20.0 - x[1]) / 20.0,
        x[2] / (3.14 * area) / 0.4 - 1.0,
        2.22e-3 * x[2] * volume / area**2 - 1.0,
        1.0 - 2.66e-2 * x[2] * x[3] * volume / area / 900.0,
    ]


UNIT = [(0.0, 1.0)]
REPORTED = {
    "ZDT1": Function(*_zdt(6, lambda r, _: 1 - np.sqrt(r)), 120 + 2 / 3),
    "ZDT2": Function(*_zdt(6, lambda r, _: 1 - r**2), 120 + 1 / 3),
    "ZDT3": Function(
        *_zdt(6, lambda r, f: 1 - np.sqrt(r) - r * np.sin(10 * np.pi * f)), 128.81334952
    ),
    "DTLZ2": Function(UNIT * 6, _dtlz2, [1.1] * 3, 1.1**3 - np.pi / 6),
    "constrained Branin-Currin": Function(
        UNIT * 2, _branin_currin, [80.0, 12.0], 608.4004237022673, _disk
    ),
    "Welded Beam": Function(
        [(0.125, 5.0), (0.1, 10.0), (0.1, 10.0), (0.125, 5.0)],
        _welded_beam,
        [40.0, 0.015],
        0.5126,  # of 30 million points by random changes of the front
        violations=_welded_beam_violations,
    ),
}
DEVELOPMENT = {
    "VLMOP2": Function([(-2.0, 2.0)] * 3, _vlmop2, [1.0, 1.0]),
    "Kursawe": Function([(-5.0, 5.0)] * 3, _kursawe, [0.0, 10.0]),
    "ZDT6": Function(UNIT * 5, _zdt6, [2.0, 10.0]),
    "DTLZ7": Function(UNIT * 5, _dtlz7, [1.1, 1.1, 20.0]),
    "OSY": Function(
        [(0.0, 10.0), (0.0, 10.0), (1.0, 5.0), (0.0, 6.0), (1.0, 5.0), (0.0, 10.0)],
        _osy,
        [0.0, 150.0],
        violations=_osy_violations,
    ),
    "SRN": Function([(-20.0, 20.0)] * 2, _srn, [250.0, 50.0], violations=_srn_violations),
    "CONSTR": Function(
        [(0.1, 1.0), (0.0, 5.0)], _constr, [1.0, 10.0], violations=_constr_violations
    ),
    "TNK": Function(
        [(1e-9, np.pi)] * 2, lambda x: tuple(x), [1.2, 1.2], violations=_tnk_violations
    ),
    "disc brake": Function(
        [(55.0, 80.0), (75.0, 110.0), (1000.0, 3000.0), (11.0, 20.0)],
        _disc_brake,
        [5.7771, 3.9651],
        violations=_disc_brake_violations,
    ),
}
