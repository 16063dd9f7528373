"""Which files and functions of skhpo a fit passes, from ``search.fit`` to its first checkpoint.

A newcomer who wants to know how a network is trained reads these. Run it as

    python benchmarks/fit_path.py [--names]

Hyperband over four candidates on two splits runs twice: each network alone, and in lockstep.
Functions within functions (comprehensions, too) count.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import warnings
from collections import Counter
from pathlib import Path

from sklearn.datasets import load_iris

import skhpo
from skhpo import HalvingHyperbandSearchCV, TorchClassifier

ROOT = str(Path(skhpo.__file__).parent)
# What a newcomer should have to read at most.
MOST_FILES = {"single": 35, "lockstep": 45}


def passed(lockstep):
    """Return pairs of file and function, each in the order in which it is first called."""
    found, done = {}, []

    def profile(frame, event, arg):
        code = frame.f_code
        if done or not code.co_filename.startswith(ROOT):
            return
        if event == "call":
            found.setdefault((code.co_filename.removeprefix(ROOT + "/"), code.co_qualname))
        elif event == "return" and code.co_name == "save_checkpoint":
            done.append(True)

    net = TorchClassifier(module__n_units=8, random_state=0)
    space = {"lr": [0.01, 0.02, 0.03, 0.04]}
    X, y = load_iris(return_X_y=True)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = HalvingHyperbandSearchCV(
            *(net, space),
            max_resources=4,
            factor=2,
            average=None,
            cv=2,
            random_state=0,
            refit=False,
            lockstep=lockstep,
            journal=Path(folder) / "journal.jsonl",
        )
        threading.setprofile(profile)
        sys.setprofile(profile)
        try:
            search.fit(X, y)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return list(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--names", action="store_true", help="print each file and its functions")
    names = parser.parse_args().names
    passed(True)  # whatever is imported or looked up once does not count
    too_many = False
    for kind, most in MOST_FILES.items():
        functions = passed(kind == "lockstep")
        files = dict.fromkeys(file for file, _ in functions)
        print(f"{kind:9} {len(files):3} files (at most {most}), {len(functions):4} functions")
        parts = Counter(file.partition("/")[0].removesuffix(".py") for file in files)
        print("    " + ", ".join(f"{part} {n}" for part, n in parts.most_common() if n > 1))
        too_many |= len(files) > most
        for file in files if names else ():
            print(f"    {file}: {', '.join(name for of, name in functions if of == file)}")
    return int(too_many)


if __name__ == "__main__":
    sys.exit(main())
