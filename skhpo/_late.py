"""What is imported when somebody asks for it: names of a package, optional packages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["import_extra", "late"]


def late(
    package: str, names_of: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the functions ``__getattr__`` and ``__dir__`` of a package.

    `names_of` maps modules, as in ``import_module(module, package)``, to the names that they have,
    with spaces in between.
    """
    homes = {name: module for module, names in names_of.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in homes:
            if f".{name}" in names_of:  # as after an import of the whole package
                return import_module(f".{name}", package)
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(homes[name], package), name)
        setattr(sys.modules[package], name, value)  # found without this from now on
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return find, names


def import_extra(module: str, who: str, extra: str | None = None) -> Any:
    """Return a module, by its full name, of a package that is installed with an extra of this one.

    Raises ImportError if it is not installed. The message says `who` needs it, and names the extra,
    by default that with the name of the package.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{who} needs the package {package}, which is not installed: "
            f"pip install skhpo[{extra or package}]"
        ) from error
