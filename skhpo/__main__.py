"""Commands about journals: ``python -m skhpo --help`` lists them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from .exceptions import JournalError, StorageError
from .inspection import read_search, report, summary_lines
from .journal import at_work, repair

# Seconds between two looks at a journal that is watched.
_WATCH_EVERY = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, by default that of the process; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m skhpo", description="What can be done with the journal of a search."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser(
        "repair",
        help="write what is whole in a damaged journal to a new one",
        description="Write what is whole in a damaged journal, and in its folder, to a new one. "
        "The search that is fitted with it does the missing fits again.",
    )
    command.add_argument("journal", help="the damaged one, which is left as it is")
    command.add_argument("--output", required=True, help="path of the new one, not there yet")
    command.set_defaults(run=_repair)
    command = commands.add_parser(
        "show",
        help="print the leading rows of a search, also while it runs",
        description="Print the leading rows of a search, its rate, time left and failures.",
    )
    command.add_argument("journal")
    command.add_argument("--rows", type=int, default=10, help="how many rows (default: 10)")
    command.add_argument("--metric", help="which score (default: the first)")
    command.set_defaults(run=_show)
    command = commands.add_parser(
        "report",
        help="write one HTML page about a search, also while it runs",
        description="Write one self-contained HTML page about a search.",
    )
    command.add_argument("journal")
    command.add_argument("--output", default="report.html", help="(default: report.html)")
    command.add_argument("--metric", help="which score (default: the first)")
    command.add_argument(
        "--watch", action="store_true", help="write it again whenever the journal has grown"
    )
    command.set_defaults(run=_report)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (JournalError, StorageError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _repair(options: argparse.Namespace) -> None:
    kept = repair(options.journal, options.output)
    for number, why in kept.lost:
        print(f"line {number} is left out: {why}")
    if not kept.has_splits:
        print("the file of the splits is not whole: the splitter must give the same ones again")
    print(
        f"{options.output}: {kept.n_kept} lines and {kept.n_checkpoints} checkpoints, "
        f"{len(kept.lost)} lines left out"
    )


def _show(options: argparse.Namespace) -> None:
    if options.rows < 1:
        raise ValueError(f"--rows must be at least 1, but got {options.rows}")
    record = read_search(options.journal)
    print("\n".join(summary_lines(record, metric=options.metric, n_rows=options.rows)))
    for process, fits in at_work(options.journal).items():
        splits: dict[int, set[int]] = {}
        for trial, split, _ in fits:
            splits.setdefault(trial, set()).add(split)
        doing = [
            f"trial {trial} on split {', '.join(map(str, sorted(splits[trial])))}"
            for trial in sorted(splits)
        ]
        print(f"{process} works on {'; '.join(doing) or 'no fit now'}")


def _report(options: argparse.Namespace) -> None:
    size = None
    while True:
        now = os.stat(options.journal).st_size if os.path.exists(options.journal) else None
        if now != size or now is None:
            size = now
            path = report(options.journal, options.output, metric=options.metric)
            print(f"{path}: {os.path.getsize(path) / 1000:.0f} kB", flush=True)
        if not options.watch:
            return
        try:
            time.sleep(_WATCH_EVERY)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    sys.exit(main())
