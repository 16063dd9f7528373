"""Commands: ``python -m skhpo repair run.jsonl --output other.jsonl``."""

import argparse
import sys

from .exceptions import JournalError, StorageError
from .journal import repair


def main(arguments=None):
    """Run a command; return its exit status.

    Parameters
    ----------
    arguments : list of str or None, default=None
        None takes those of the process.
    """
    parser = argparse.ArgumentParser(prog="python -m skhpo", description="Journals of searches.")
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
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (JournalError, StorageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _repair(options):
    kept = repair(options.journal, options.output)
    for number, why in kept.lost:
        print(f"line {number} is left out: {why}")
    if not kept.has_splits:
        print("the file of the splits is not whole: the splitter must give the same ones again")
    print(
        f"{options.output}: {kept.n_kept} lines and {kept.n_checkpoints} checkpoints, "
        f"{len(kept.lost)} lines left out"
    )


if __name__ == "__main__":
    sys.exit(main())
