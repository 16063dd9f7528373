"""The object ``hp`` of builders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ._definitions import Choice, Definition, Fixed, Range

__all__ = ["HyperParameters"]

# Per run of a builder; only an infinite loop requests more.
_MOST_NAMES = 10_000


class HyperParameters:
    """The argument ``hp`` of a builder that defines its space while it runs.

    Each method defines the possible values of a hyperparameter, and returns the current one: the
    value that was set, else the default. The signatures are those of keras-tuner.

    Parameters
    ----------
    values : mapping of str to object, default=None
        Values that are set.

    Attributes
    ----------
    values : dict of str to object
        Values of the requested hyperparameters, in their order.

    See Also
    --------
    distributions_of : Finds the space of a builder.
    SearchSpace : What is searched, as a unit cube.

    Examples
    --------
    >>> from skhpo import HyperParameters
    >>> hp = HyperParameters({"units": 64})
    >>> hp.Int("units", 32, 512, step=32), hp.Float("lr", 1e-4, 1e-2, sampling="log")
    (64, 0.0001)
    >>> hp.values
    {'units': 64, 'lr': 0.0001}
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self.given = dict(values or {})
        self._scopes: list[str] = []
        self.definitions: dict[str, Definition] = {}
        self.values: dict[str, Any] = {}

    def Int(
        self,
        name: str,
        min_value: int,
        max_value: int,
        step: int | None = None,
        sampling: str = "linear",
        default: int | None = None,
    ) -> Any:
        """Request an integer from `min_value` to `max_value`, both included.

        Parameters
        ----------
        name : str
            Of the hyperparameter; within `name_scope` with a prefix.
        min_value, max_value : int
            The ends of the range, both included.
        step : int or None, default=None
            Distance of two values; with ``sampling="log"`` their ratio.
        sampling : {"linear", "log"}, default="linear"
            Scale on which values are drawn.
        default : int or None, default=None
            None is `min_value`.

        Returns
        -------
        int
            The current value.
        """
        return self._range("Int", name, min_value, max_value, step, sampling, default)

    def Float(
        self,
        name: str,
        min_value: float,
        max_value: float,
        step: float | None = None,
        sampling: str = "linear",
        default: float | None = None,
    ) -> Any:
        """Request a number from `min_value` to `max_value`.

        Parameters
        ----------
        name : str
            Of the hyperparameter; within `name_scope` with a prefix.
        min_value, max_value : float
            The ends of the range, both included.
        step : float or None, default=None
            Distance of two values; with ``sampling="log"`` their ratio.
        sampling : {"linear", "log"}, default="linear"
            Scale on which values are drawn.
        default : float or None, default=None
            None is `min_value`.

        Returns
        -------
        float
            The current value.
        """
        return self._range("Float", name, min_value, max_value, step, sampling, default)

    def Choice(
        self,
        name: str,
        values: Sequence[Any],
        ordered: bool | None = None,
        default: Any = None,
    ) -> Any:
        """Request one of `values`.

        Parameters
        ----------
        name : str
            Of the hyperparameter; within `name_scope` with a prefix.
        values : list
            The choices, of any type.
        ordered : bool or None, default=None
            Ignored; accepted for keras-tuner's builders.
        default : object, default=None
            None is the first value, or None if that is one of them.

        Returns
        -------
        object
            The current value.
        """
        values = tuple(values)
        if default is None and values and None not in values:
            default = values[0]
        return self._answer(Choice(self._named(name), values, default))

    def Boolean(self, name: str, default: bool = False) -> Any:
        """Request True or False.

        Parameters
        ----------
        name : str
            Of the hyperparameter; within `name_scope` with a prefix.
        default : bool, default=False
            Value that is returned while none is set.

        Returns
        -------
        bool
            The current value.
        """
        return self._answer(Choice(self._named(name), (False, True), default))

    def Fixed(self, name: str, value: Any) -> Any:
        """Define a value that is not searched.

        Parameters
        ----------
        name : str
            Of the hyperparameter; within `name_scope` with a prefix.
        value : object
            The only value.

        Returns
        -------
        object
            That value.
        """
        return self._answer(Fixed(self._named(name), value))

    def get(self, name: str) -> Any:
        """Return the value of a hyperparameter that was requested before.

        Parameters
        ----------
        name : str
            Of the hyperparameter.

        Returns
        -------
        value : object
            The current value.

        Raises
        ------
        KeyError
            If it was not.
        """
        name = self._named(name)
        if name not in self.values:
            raise KeyError(f"{name!r} was not asked for yet; known are {list(self.values)}")
        return self.values[name]

    __getitem__ = get

    def __contains__(self, name: str) -> bool:
        return self._named(name) in self.values

    @contextmanager
    def name_scope(self, name: str):  # type: ignore[no-untyped-def]
        """Prefix names with ``name_`` within this context.

        Parameters
        ----------
        name : str
            What names within the context begin with.

        Yields
        ------
        None
            Nothing; a context for ``with``.
        """
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    @contextmanager
    def conditional_scope(self, parent_name: str, parent_values: Any):  # type: ignore[no-untyped-def]
        """Check that the parent was requested; conditions are found by running the builder.

        Parameters
        ----------
        parent_name : str
            A hyperparameter that was requested before.
        parent_values : object or list
            Values of it; not used.

        Yields
        ------
        None
            Nothing; a context for ``with``.
        """
        self.get(parent_name)
        yield

    def _named(self, name: str) -> str:
        if not isinstance(name, str) or not name.isidentifier() or "__" in name:
            raise ValueError(
                "the name of a hyperparameter must be a Python identifier without '__', because it "
                f"becomes a parameter of the estimator, but got {name!r}"
            )
        return "_".join([*self._scopes, name])

    def _range(
        self,
        kind: str,
        name: str,
        low: Any,
        high: Any,
        step: Any,
        sampling: str | None,
        default: Any,
    ) -> Any:
        default = low if default is None else default
        if kind == "Float":
            low, high, default = (
                float(x) if isinstance(x, int) and not isinstance(x, bool) else x
                for x in (low, high, default)
            )
        return self._answer(
            Range(kind, self._named(name), low, high, step, sampling or "linear", default)
        )

    def _answer(self, definition: Definition) -> Any:
        name = definition.name
        check_equal(self.definitions.setdefault(name, definition), definition)
        if len(self.definitions) > _MOST_NAMES:
            raise ValueError(
                f"a builder may ask for at most {_MOST_NAMES:,} hyperparameters, but one more is "
                f"{name!r}; give the loop that asks for it an end"
            )
        value = self.given.get(name, definition.default)
        self.values[name] = value
        return value


def check_equal(first: Definition, second: Definition) -> None:
    """Raise ValueError if two definitions of one name differ."""
    if repr(first) != repr(second):
        raise ValueError(
            f"a hyperparameter must be defined once, or alike, but {first.name!r} is "
            f"{first} and {second}; give one of them another name"
        )
