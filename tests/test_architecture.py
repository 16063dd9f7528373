"""Imports only go down: each part knows the parts below it and nothing above."""

import ast
import functools
import re
from pathlib import Path

import pytest

import skhpo

ROOT = Path(skhpo.__file__).parent

# From the ground up. A part may import itself and whatever stands before it.
PARTS = [
    "_late",
    "_compat",
    "_joblib",
    "arguments",
    "exceptions",
    "faults",
    "files",
    "interrupts",
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
    "own_code",
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
    "training": {"sklearn", "skorch", "joblib", "skhpo._compat", "skhpo._joblib"},
    "evaluation": {"skhpo.samplers"},
    "inspection": {"skhpo.schedulers", "skhpo.evaluation"},
}


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


@pytest.mark.parametrize(("library", "file"), [("sklearn", "_compat.py"), ("joblib", "_joblib.py")])
def test_private_names_of_a_library_are_imported_in_one_file(library, file):
    for path in modules():
        if path.name == file:
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
    code = "import sys, skhpo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
