"""A builder is run again and again, until it is known what it may ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._definitions import Choice, Definition
from ._hyperparameters import HyperParameters, check_equal

__all__ = ["Exploration", "explore"]

# Values that are told apart of a parameter on which others depend; each may need a dict.
_MAX_BRANCHES = 32

# Of a parameter that decides which others there are the values that do; of all others None.
Leaf = dict[str, list[Any] | None]


@dataclass
class Exploration:
    """What a builder asks for.

    Parameters
    ----------
    definitions : dict of str to Definition
        Of all hyperparameters that were seen.
    leaves : list of dict
        Of each combination of branches the values of its parameters: for those that decide the
        branch the values that lead there, for all others None.
    n_runs : int
        How often the builder ran.
    complete : bool
        False if the exploration was cut short.
    """

    definitions: dict[str, Definition] = field(default_factory=dict)
    leaves: list[Leaf] = field(default_factory=list)
    n_runs: int = 0
    complete: bool = True

    @property
    def names(self) -> set[str]:
        """All hyperparameters of the space."""
        return {name for leaf in self.leaves for name in leaf}

    def distributions(self) -> Any:
        """Return the space: a dict, or where there are branches a list of dicts."""
        spaces = [
            {
                name: self.definitions[name].distribution() if values is None else list(values)
                for name, values in leaf.items()
            }
            for leaf in self.leaves
        ]
        return spaces[0] if len(spaces) == 1 else spaces


def explore(run: Callable[[HyperParameters], Any], *, max_runs: int) -> Exploration:
    """Find out what a builder asks for, and what depends on what.

    All parameters are changed at once, to each of their values, and integers to the ends of their
    ranges. If the builder then asks for the same names, nothing depends on anything. Otherwise
    each is changed alone; the first one on which others depend (or, where two are needed, the
    first choice) makes branches, one for each of its values, and below each the rest is explored
    in the same way. A float decides nothing, as far as this can see.

    Parameters
    ----------
    run : callable
        Runs the builder with the `HyperParameters` it is given.
    max_runs : int
        How often it may run.

    Returns
    -------
    Exploration
    """
    explorer = _Explorer(run, max_runs)
    leaves = explorer.leaves({}, {})
    found = explorer.found
    found.leaves = [
        {
            name: None if values == found.definitions[name].all_values() else values
            for name, values in leaf.items()
        }
        for leaf in _merged(leaves)
    ]
    return found


class _Explorer:
    def __init__(self, run: Callable[[HyperParameters], Any], max_runs: int) -> None:
        self.run = run
        self.max_runs = max_runs
        self.found = Exploration()
        self._runs: dict[str, tuple[str, ...]] = {}

    def names(self, values: Mapping[str, Any]) -> tuple[str, ...] | None:
        """Return what the builder asks for with some values set; None where runs are used up."""
        key = repr(sorted(values.items()))
        if key in self._runs:
            return self._runs[key]
        if self.found.n_runs >= self.max_runs:
            self.found.complete = False
            return None
        self.found.n_runs += 1
        hp = HyperParameters(values)
        self.run(hp)
        for name, definition in hp.definitions.items():
            check_equal(self.found.definitions.setdefault(name, definition), definition)
        return self._runs.setdefault(key, tuple(hp.definitions))

    def leaves(self, values: dict[str, Any], deciding: dict[str, list[Any]]) -> list[Leaf]:
        """Explore below a branch.

        Parameters
        ----------
        values : dict
            What is set in this branch.
        deciding : dict
            Of each parameter that led here the values that lead here.
        """
        base = self.names(values)
        if base is None:
            return []
        free = [self.found.definitions[name] for name in base if name not in values]
        if self._nothing_matters(values, free, base):
            return [{name: deciding.get(name) for name in base}]
        for definition in free:
            if self._matters(values, definition, base):
                return self._branches(values, deciding, definition)
        for definition in free:
            if isinstance(definition, Choice):  # two of them matter together
                return self._branches(values, deciding, definition)
        return [{name: deciding.get(name) for name in base}]

    def _nothing_matters(
        self, values: dict[str, Any], free: list[Definition], base: tuple[str, ...]
    ) -> bool:
        """Change everything at once, until each parameter has had all of its probes."""
        probes = {definition.name: definition.probes() for definition in free}
        probes = {name: some for name, some in probes.items() if some}
        for turn in range(max(map(len, probes.values()), default=0)):
            changed = {name: some[turn % len(some)] for name, some in probes.items()}
            if not self._alike({**values, **changed}, base):
                return False
        return True

    def _matters(
        self, values: dict[str, Any], definition: Definition, base: tuple[str, ...]
    ) -> bool:
        return not all(
            self._alike({**values, definition.name: value}, base) for value in definition.probes()
        )

    def _alike(self, values: dict[str, Any], base: tuple[str, ...]) -> bool:
        names = self.names(values)
        return names is None or set(names) == set(base)

    def _branches(
        self,
        values: dict[str, Any],
        deciding: dict[str, list[Any]],
        definition: Definition,
    ) -> list[Leaf]:
        choices = definition.all_values() or []
        if len(choices) > _MAX_BRANCHES:
            self.found.complete = False
            choices = choices[:: -(-len(choices) // _MAX_BRANCHES)]
        leaves: list[Leaf] = []
        for choice in choices:
            below = {**values, definition.name: choice}
            leaves += self.leaves(below, {**deciding, definition.name: [choice]})
        return leaves


def _merged(leaves: list[Leaf]) -> list[Leaf]:
    """Join leaves that differ in the values of one deciding parameter only."""
    merged: list[Leaf] = []
    for leaf in leaves:
        for other in merged:
            if list(other) != list(leaf):
                continue
            different = [name for name in leaf if repr(leaf[name]) != repr(other[name])]
            if len(different) == 1 and leaf[different[0]] and other[different[0]]:
                other[different[0]] = [*other[different[0]], *leaf[different[0]]]  # type: ignore[misc]
                break
        else:
            merged.append(dict(leaf))
    return merged
