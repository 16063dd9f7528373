"""Imports only go down: each part knows the parts below it and nothing above."""

import ast
import contextlib
import functools
import importlib
import inspect
import io
import re
import tomllib
import typing
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import skhpo

ROOT = Path(skhpo.__file__).parent

# From the ground up. A part may import itself and whatever stands before it.
PARTS = [
    "_late",
    "_compat",
    "arguments",
    "exceptions",
    "faults",
    "files",
    "process",
    "bfloat16",
    "limits",
    "datasets",
    "rows",
    "trial",
    "objectives",
    "searchable",
    "preprocessing",
    "wrappers",
    "scorers",
    "space",
    "define_by_run",
    "samplers",
    "schedulers",
    "names",
    "modules",
    "training",
    "estimators",
    "self_tuning",
    "fingerprint",
    "journal",
    "lockstep",
    "evaluation",
    "results",
    "ensembles",
    "model_selection",
    "callbacks",
    "inspection",
    "testing",
    "__main__",
]
NEVER = {
    "define_by_run": {"keras", "skorch", "joblib", "torch"},
    "samplers": {"skorch", "joblib", "torch", "skhpo.estimators"},
    "schedulers": {"skorch", "joblib", "torch", "skhpo.estimators"},
    "training": {"sklearn", "skorch", "joblib", "skhpo._compat"},
    "evaluation": {"skhpo.samplers"},
    "inspection": {"skhpo.schedulers", "skhpo.evaluation"},
}

# Attributes that estimators share with classes of scikit-learn.
OF_SKLEARN = {"_callbacks", "_parameter_constraints", "_skl_callbacks"}


def modules():
    return [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def part_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@functools.cache
def imported(path):
    """Return absolute dotted names of everything that a file imports, or a name from its module."""
    package = ("skhpo", *path.relative_to(ROOT).parent.parts)
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = [*base, *(node.module.split(".") if node.module else [])]
            names += [".".join([*module, alias.name]) for alias in node.names]
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    part = part_of(path)
    assert part in PARTS, f"{part} has no place in the order of parts"
    for name in imported(path):
        if name.startswith("skhpo."):
            used = name.split(".")[1]
            assert used in PARTS, f"{part} imports {name}"
            assert PARTS.index(used) <= PARTS.index(part), f"{part} imports {name}"
        for banned in NEVER.get(part, ()):
            assert f"{name}.".startswith(f"{banned}.") is False, f"{part} imports {name}"


@pytest.mark.parametrize("library", ["sklearn", "joblib"])
def test_private_names_of_a_library_are_imported_in_one_file(library):
    for path in modules():
        if path.name == "_compat.py":
            continue
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == library:
                private = [part for part in parts if part.startswith("_") or part == "externals"]
                assert not private, f"{path.name} imports {name}"


def borrowed(path):
    """Yield the private modules, or names, of other packages that a file imports."""
    own = ("skhpo", *path.relative_to(ROOT).parent.parts)
    for name in imported(path):
        names = name.split(".")
        for i, one in enumerate(names):
            if names[0] == "skhpo" and one.startswith("_") and tuple(names[:i]) != own[:i]:
                yield ".".join(names[1 : i + 1])
                break


def test_no_package_reads_private_modules_of_another():
    found = {f"{part_of(path)}: {name}" for path in modules() for name in borrowed(path)}
    assert not found, "give it a public name, or import it through the package's __init__"


def test_the_order_is_that_of_the_design():
    design = (ROOT.parent / "docs" / "design.md").read_text()
    listed = re.findall(r"^  (\w+?)(?:\.py|/) ", design, flags=re.MULTILINE)
    assert listed == PARTS
    assert {part_of(path) for path in modules()} == set(PARTS)


def test_every_public_name_is_there_and_importing_the_package_is_light():
    import subprocess
    import sys

    assert {getattr(skhpo, name) for name in skhpo.__all__}
    late = [
        path.parent.name for path in ROOT.glob("*/__init__.py") if " = late(" in path.read_text()
    ]
    assert {"samplers", "model_selection"} <= set(late)
    code = """if True:
        import sys, skhpo
        from importlib import import_module
        assert "torch" not in sys.modules
        for package in [skhpo, *(import_module(f"skhpo.{name}") for name in sys.argv[1:])]:
            assert set(package.__all__) <= set(dir(package)), package
        import skhpo.samplers, skhpo.schedulers
        assert skhpo.samplers.grid.GridSampler is skhpo.samplers.GridSampler
        assert skhpo.schedulers.full.FullScheduler is skhpo.schedulers.FullScheduler
        assert not hasattr(skhpo.samplers, "missing")
    """
    subprocess.run([sys.executable, "-c", code, *late], check=True)


def public_callables():
    """Return classes, functions and methods of public modules, by name."""
    found = {}
    for path in modules():
        parts = [
            part for part in path.relative_to(ROOT).with_suffix("").parts if part != "__init__"
        ]
        if any(part.startswith("_") for part in parts):
            continue
        module = importlib.import_module(".".join(["skhpo", *parts]))
        for name in getattr(module, "__all__", ()):
            one = getattr(module, name)
            if inspect.isfunction(one) or inspect.isclass(one):
                found[f"{module.__name__}.{name}"] = one
    for name, one in list(found.items()):
        for own, method in inspect.getmembers(one, inspect.isfunction):
            ours = method.__module__.startswith("skhpo.")
            if ours and (own == "__init__" or not own.startswith("_")):
                found[f"{name}.{own}"] = method
    return found


def test_annotations_of_public_callables_can_be_read():
    """As tools do that make forms, command lines or checks of them."""
    unread = {}
    for name, one in public_callables().items():
        try:
            typing.get_type_hints(one)
        except NameError as error:
            unread[name] = str(error)
    assert not unread


def is_underscored(name):
    return name.startswith("_") and not name.startswith("__")


def attributes(tree):
    """Yield nodes that read or set attributes with one underscore, and their names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_underscored(node.attr):
            yield node, node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
            name = getattr(node.args[1], "value", None)
            if isinstance(name, str) and is_underscored(name):
                yield node, name


def defined(tree):
    """Return the names with one underscore of functions, variables and attributes of a file."""
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    stored = (node for node, _ in attributes(tree) if isinstance(node, ast.Attribute))
    names |= {node.attr for node in stored if isinstance(node.ctx, ast.Store)}
    return {name for name in names if is_underscored(name)}


def test_other_packages_read_no_underscored_attributes_of_estimators():
    trees = {path: ast.parse(path.read_text()) for path in modules()}
    of_estimators = set()
    for path, tree in trees.items():
        if part_of(path) == "estimators" and "keras" not in path.parts:
            of_estimators |= defined(tree)
    # Self-tuning networks are torch estimators; loaders of training are handed one.
    for part in set(PARTS) - {"estimators", "self_tuning", "training"}:
        own = {path: tree for path, tree in trees.items() if part_of(path) == part}
        theirs = of_estimators.difference(*map(defined, own.values())) - OF_SKLEARN
        for path, tree in own.items():
            read = {name for _, name in attributes(tree)} & theirs
            assert not read, f"{path.name} reads {read}: give them a public name, or move the code"


def test_every_dependency_is_pinned_and_can_be_installed_in_its_oldest_version(monkeypatch):
    repository = ROOT.parent
    monkeypatch.chdir(repository)
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    needed = [Requirement(line) for line in project["dependencies"]]
    lines = Path("constraints.txt").read_text().splitlines()
    pinned = {found.name: found for found in map(Requirement, lines[1:])}
    for one in needed:
        (version,) = pinned[one.name].specifier
        assert one.specifier.contains(version.version)

    code = re.search(r"^OLDEST = (.*(?:(?<=\\)\n.*)*)", Path("Makefile").read_text(), re.MULTILINE)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(re.sub(r"\\\n\s*", "", code[1]), {})
    oldest = [Requirement(line) for line in printed.getvalue().splitlines()]
    assert [(o.name, o.marker) for o in oldest] == [(one.name, one.marker) for one in needed]
    for one, o in zip(needed, oldest, strict=True):
        (version,) = o.specifier
        assert version.operator == "=="
        assert f">={version.version}" in str(one.specifier)
