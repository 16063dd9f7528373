"""What grows with a search, its data or its space: cost against size, and against a peer.

Each row of the table is a function in one of the modules of `AREAS`, registered with
``@row("what grows", "bar")``, and returns a `Figure`. It runs in a process of its own.

Run it with ``python benchmarks/scale.py``, with words to choose rows whose names have one of them,
or with ``--list``.
"""

import argparse
import importlib
import subprocess
import sys

from scale_rows import ROWS

AREAS = ["scale_driver", "scale_maths", "scale_data"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--list", action="store_true", help="names of the rows")
    parser.add_argument("--one", help="measure this row here")
    args = parser.parse_args()
    for area in AREAS:
        importlib.import_module(area)
    if args.one is not None:
        print(ROWS[args.one].line(), flush=True)
        return
    names = [n for n in ROWS if not args.words or any(word in n for word in args.words)]
    if args.list:
        print("\n".join(names))
        return
    print("| what grows | measured | ratio | exponent | to reach |")
    print("| --- | --- | ---: | ---: | --- |", flush=True)
    for name in names:
        subprocess.run([sys.executable, __file__, "--one", name], check=False)


if __name__ == "__main__":
    main()
