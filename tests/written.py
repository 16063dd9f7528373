"""Small journals, as of searches, for the tests of journals."""

import os
import stat

from test_journal import HEADER, SPLITS, ask

from skhpo.journal import Journal, fit_event
from skhpo.trial import FitResult, Trial


def events_of_a_search(asynchronous):
    events = []
    for number in range(4):
        trial = Trial(number, number, {"lr": 0.1 * number, "act": "relu"}, resource=3)
        events += [ask(number)] if asynchronous else []
        for split in range(2):
            events.append(fit_event(trial, FitResult(number, split, 0, {"score": 0.5 + number})))
        events += [{"event": "tell", "trial": number}] if asynchronous else []
    return events


def write(path, asynchronous=False):
    """Write a journal; return its events as they are read."""
    with Journal(path) as journal:
        header = HEADER | {"n_repeats": 1, "asynchronous": asynchronous}
        journal.start(header, SPLITS, events_of_a_search(asynchronous))
    with Journal(path) as journal:
        return journal.events


def less_seal(events):
    return [{k: v for k, v in event.items() if k not in ("n", "sum")} for event in events]


def snapshot(folder):
    """Describe everything below a folder, links as links."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(root, name)
            mode = os.lstat(path).st_mode
            content = None
            if stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    content = file.read()
            found[path] = mode, content
    return found
