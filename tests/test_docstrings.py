"""Docstrings of the API reference pass numpydoc's validation with the rules of scikit-learn."""

import importlib
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

import skhpo

try:
    from numpydoc import validate
except ImportError:
    validate = None

API = Path(__file__).parents[1] / "docs" / "api.rst"
NAMES = re.findall(r"^   ([\w.]+)$", API.read_text(), re.MULTILINE)

# scikit-learn leaves these out (sklearn/tests/test_docstrings.py): the form of the first line, of
# "Returns" and, below a class, an extended summary, "See Also" and "Examples".
NEVER = {"RT02", "GL01", "GL02"}
OF_CLASSES = {"EX01", "SA01", "ES01"}
OF_PROPERTIES = {"PR02", "GL08"}


def resolved(name):
    """Return the object of a name of the reference, and its full name."""
    package, _, own = f"skhpo.{name}".rpartition(".")
    return getattr(importlib.import_module(package), own), f"{package}.{own}"


def members(cls):
    """Yield names of public methods and properties of this package, with the class of their text.

    A method without a text has that of the method which it overrides, on the site too. The name of
    a contract's test says what it checks.
    """
    for name in dir(cls):
        found = [home for home in cls.__mro__ if name in vars(home)]
        if (
            name.startswith(("_", "test_"))
            or not found
            or not found[0].__module__.startswith("skhpo.")
        ):
            continue
        if is_documented(vars(found[0])[name]):
            yield name, next((home for home in found if text_of(vars(home)[name])), found[0])


def is_documented(member):
    return isinstance(member, property) or callable(getattr(member, "__func__", member))


def text_of(member):
    return member.__doc__ if is_documented(member) else None


def errors(path, left_out):
    found = validate.validate(path)["errors"]
    return [f"{path}: {code} {text}" for code, text in found if code not in NEVER | left_out]


def errors_of(name):
    thing, path = resolved(name)
    if not inspect.isclass(thing):
        return errors(path, OF_CLASSES)
    found = errors(path, set())
    for member, home in members(thing):
        if home.__module__.startswith("skhpo."):
            found += errors_of_member(home, member)
    return found


@cache
def errors_of_member(cls, name):
    is_property = isinstance(vars(cls)[name], property)
    path = f"{cls.__module__}.{cls.__qualname__}.{name}"
    return errors(path, OF_CLASSES | (OF_PROPERTIES if is_property else set()))


def test_reference_has_all_public_names():
    assert set(skhpo.__all__) <= set(NAMES)


@pytest.mark.skipif(validate is None, reason="needs numpydoc, which `make docs` installs")
@pytest.mark.parametrize("name", NAMES)
def test_numpydoc_finds_no_error(name):
    assert errors_of(name) == []
