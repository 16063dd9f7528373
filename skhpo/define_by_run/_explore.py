"""Exploration of a builder by running it with different values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._definitions import Choice, Definition
from ._hyperparameters import HyperParameters, check_equal

__all__ = ["Exploration", "explore"]

# Most values of a parameter on which others depend; each may need a dict.
_MAX_BRANCHES = 32

# For a parameter on which others depend the values of this branch; for all others None.
Leaf = dict[str, list[Any] | None]


@dataclass
class Exploration:
    """The hyperparameters of a builder.

    Parameters
    ----------
    definitions : dict of str to Definition
        Of all hyperparameters that were requested.
    leaves : list of dict
        For each combination of branches its parameters: with the values of the branch for those on
        which others depend, with None for all others.
    n_runs : int
        Number of runs of the builder.
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
    """Find the hyperparameters of a builder and their dependencies.

    All parameters are changed at once, choices to each of their values, integers to the ends of
    their ranges. If the builder then requests the same names, nothing depends on anything.
    Otherwise each is changed alone; the first one on which others depend (or, if only two together
    matter, the first choice) makes branches, one for each of its values, and each is explored in
    the same way. Dependence on floats is not detected.
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
        """Return the names requested with some values set; None if no runs are left."""
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
        """Explore a branch with some values set; `deciding` are those of the branch itself."""
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
        """Whether names stay the same when all parameters are changed at once, for all probes."""
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
    """Merge leaves that differ only in the values of one parameter."""
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
