"""Faults of files, as parts of ``faults.py``: damage, files of others, and what the proofs cost."""

import contextlib
import json
import os
import random
import shutil
import socket
import stat
import statistics
import tempfile
import time
import warnings
from functools import cache, partial
from pathlib import Path

import numpy as np
from faults_searches import X, Y, in_child, is_slow, same, table
from scipy.stats import loguniform
from sklearn.model_selection import ShuffleSplit

from skhpo import HalvingHyperbandSearchCV, TensorBoardLogger, TorchClassifier, read_journal
from skhpo.exceptions import JournalError, StorageError
from skhpo.journal import Journal, fit_event, repair
from skhpo.trial import FitResult, Trial


class Stop:
    """Presses Ctrl-C after so many fits."""

    def __init__(self, left):
        self.left = left

    def on_fit_end(self, search, trial, result):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def fit(journal, **kwargs):
    """Fit a search whose splits nobody can make again; return what it found, times apart."""
    search = HalvingHyperbandSearchCV(
        TorchClassifier(module__n_units=4, batch_size=16),
        {"lr": loguniform(1e-3, 1e-1)},
        resource="max_epochs",
        max_resources=4,
        factor=2,
        n_brackets=2,
        cv=ShuffleSplit(2, test_size=0.5),
        random_state=0,
        refit=False,
        journal=journal,
        **{"lockstep": False, **kwargs},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return table(search.fit(X, Y))


def copy(journal, to):
    shutil.copy(journal, to)
    shutil.copytree(f"{journal}.files", f"{to}.files")
    return to


def flipped(content):
    """Change one byte."""
    i = random.randrange(len(content))
    return content[:i] + bytes([content[i] ^ random.randint(1, 255)]) + content[i + 1 :]


def cut(content):
    """Take a piece out, often the end."""
    begin, end = sorted(random.randint(0, len(content)) for _ in "ab")
    return content[:begin] + content[random.choice([end, len(content)]) :]


def edited(content):
    """Swap, double, drop, insert or rewrite lines."""
    lines = content.splitlines(keepends=True)
    i, j = (random.randrange(len(lines)) for _ in "ab")
    kind = random.choice(["swap", "double", "drop", "insert", *["rewrite"] * 4])
    if kind == "swap":
        lines[i], lines[j] = lines[j], lines[i]
    elif kind == "double":
        lines.insert(i, lines[j])
    elif kind == "drop":
        del lines[i]
    elif kind == "insert":
        lines.insert(
            i, random.choice([b"{}\n", b"[" * 100_000 + b"\n", b"null\n", b"\n", b"\xff\n"])
        )
    else:
        line = json.loads(lines[i])
        others = [None, 99, -1, 1e400, float("nan"), "x", [1], {}, {"score": 99}, {"f1": 0.5}, True]
        line[random.choice(list(line))] = random.choice(others)
        lines[i] = json.dumps(line).encode() + b"\n"
    return b"".join(lines)


def harm(journal):
    """Damage one file of a journal; return which kind of file."""
    checkpoints = sorted(Path(f"{journal}.files").glob("*.pt"))
    kind = random.choice(["journal", "journal", "splits", "checkpoint", "checkpoint"])
    path = Path(journal)
    if kind == "splits":
        path = Path(f"{journal}.files") / random.choice(["splits.npz"] * 4 + ["owner"])
    elif kind == "checkpoint" and checkpoints:
        path = random.choice(checkpoints)
        if random.random() < 0.3:  # exchanged, with or without its first line
            content, other = path.read_bytes(), random.choice(checkpoints).read_bytes()
            length = random.choice([0, content.index(b"\n") + 1])
            path.write_bytes(content[:length] + other[length:])
            return kind
    change = random.choice([flipped, cut, edited] if path == Path(journal) else [flipped, cut])
    path.write_bytes(change(path.read_bytes()))
    return kind


# By name: after how many fits Ctrl-C is pressed, and arguments of the search.
BASES = {
    "short": (13, {}),
    "finished": (0, {}),
    "asynchronous": (13, {"asynchronous": True}),
    "lockstep": (13, {"lockstep": True}),
}


@cache
def bases(folder):
    """Return journals of searches that were cut short, and what these find in the end."""
    np.random.seed(0)  # noqa: NPY002
    found = []
    for name, (stop, kwargs) in BASES.items():
        journal = folder / f"base-{name}"
        in_child(partial(fit, journal, callbacks=[Stop(stop)], **kwargs))
        whole = partial(fit, copy(journal, folder / f"whole-{name}"), **kwargs)
        found.append((journal, in_child(whole).value, kwargs))
    return found


def use_damaged(folder, kwargs):
    """Fit a search with a damaged journal, and with one that was repaired; return what came."""
    try:
        return "fitted", fit(folder / "run", **kwargs)
    except JournalError:
        try:
            repair(folder / "run", folder / "repaired")
            return "repaired", fit(folder / "repaired", **kwargs)
        except JournalError:
            return "refused", None


def damage(number, folder):
    """Flips, cuts, swaps and edits in journal, splits and checkpoints, of searches cut short.

    One try in five has workers, and one in fifty new ones.
    """
    journal, reference, kwargs = bases(folder.parent)[number % len(BASES)]
    has_workers = number % 5 == 0 and "asynchronous" not in kwargs
    new_workers = has_workers and is_slow(number)
    if has_workers:
        kwargs = {**kwargs, "n_jobs": 2}
    harm(copy(journal, folder / "run"))
    child = in_child(partial(use_damaged, folder, kwargs), new_workers=new_workers)
    way, found = child.value or ("raw", None)
    right = found is None or same(found, reference)
    return {
        "hit": True,
        "new workers": new_workers,
        "silent": way == "fitted" and not right,
        "raw": way == "raw",
        "refused": way in ("refused", "repaired"),
        "repaired": way == "repaired",
        "worse": way == "repaired" and not right,
        **({"error": child.error} if child.error else {}),
    }


# --- files of others

TEXT = b"of somebody else"
AS_JOURNAL = {
    "a line": b"all my notes\n",
    "no line end": b"all my notes",
    "many lines": b"all my notes\n" * 1000,
    "nothing": b"",
    "an end of line": b"\n",
    "zeros": bytes(1000),
    "bytes": bytes(range(256)),
    "a number": b"12\n",
    "null": b"null\n",
    "an object": b'{"lr": 0.1}\n',
    "an object, no line end": b'{"lr": 0.1}',
    "a list": b"[1, 2]\n",
    "events": b'{"event": "fit"}\n{"event": "fit"}\n',
    "a header": b'{"skhpo": 2}\n',
    "half a header": b'{"skhpo": 2, "jour',
    "format 1": b'{"skhpo": 1, "seed": 0, "fingerprint": {}}\n',
    "format 3": b'{"skhpo": 3, "journal": "ab", "sum": "cd"}\n',
    "a table": b"a,b\n1,2\n",
    "a program": b"import os\n",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "an archive": b"PK\x03\x04" + bytes(50),
    "utf-16": "notes".encode("utf-16"),
    "a byte-order mark": b'\xef\xbb\xbf{"skhpo": 2}\n',
}
# What is planted, in the place of what.
PLANTED = [
    (where, what)
    for where in ("journal", "files", "splits.npz", "owner", "0-0-0.pt", "skhpo.json", "incomplete")
    for what in ("link", "link to nowhere", "folder", "pipe", "device", "socket")
    if (where, what) not in {("journal", "link"), ("files", "folder")}
]


def state_of(folder):
    """Describe everything below a folder but the time of access, links as links."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(root) / name
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
            found[str(path.relative_to(folder))] = status.st_mode, status.st_ino, content
    return found


def plant(path, what, victim):
    """Put something of somebody else at a path."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "link":
        path.symlink_to(victim)
    elif what == "link to nowhere":
        path.symlink_to(victim.with_name("nowhere"))
    elif what == "folder":
        path.mkdir()
        (path / "notes.txt").write_bytes(TEXT)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/null")
    else:
        with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)


def foreign(number, folder):
    """Things that are not ours where the package writes, reads and removes: a kind each time."""
    if number < len(AS_JOURNAL):
        name, content = list(AS_JOURNAL.items())[number]
        path = folder / "notes"
        path.write_bytes(content)
        return attempt(name, path, [folder])
    where, what = PLANTED[number - len(AS_JOURNAL)]
    elsewhere, own = folder / "elsewhere", folder / "own"
    elsewhere.mkdir()
    own.mkdir()
    journal, log = own / "run", own / "log"
    for name in ("splits.npz", "owner", "0-0-0.pt", "notes.txt", "skhpo.json"):
        (elsewhere / name).write_bytes(TEXT)
    in_child(partial(fit, journal, callbacks=[Stop(13), TensorBoardLogger(log)]))
    places = {"journal": journal, "files": Path(f"{journal}.files")}
    places |= {name: log / name for name in ("skhpo.json", "incomplete")}
    place = places.get(where, Path(f"{journal}.files") / where)
    victim = elsewhere if where == "files" else elsewhere / "notes.txt"
    plant(place, what, victim)
    watched = [elsewhere, place] if what == "folder" else [elsewhere]
    return attempt(f"{what} as {where}", journal, watched, log)


def use_foreign(journal, log):
    """Read and fit; return what is raised that should not be."""
    callbacks = [TensorBoardLogger(log)] if log else []
    raw = []
    for use in (read_journal, partial(fit, callbacks=callbacks)):
        try:
            use(journal)
        except (JournalError, StorageError):
            pass
        except Exception as error:
            if "log_dir must" not in str(error):
                raw.append(f"{type(error).__name__}: {error}"[:120])
    return raw


def attempt(name, journal, watched, log=None):
    """Read and fit; note whether something changed that is not ours."""
    before = [state_of(folder) for folder in watched]
    child = in_child(partial(use_foreign, journal, log))
    raw = [child.error] if child.value is None else child.value
    return {
        "hit": True,
        "changed": [state_of(folder) for folder in watched] != before,
        "raw": len(raw),
        **({"error": f"{name}: {raw}"} if raw else {}),
    }


# --- what it costs


def checksum(number, folder):
    """Writing a line: with number, checksum and looks at the file, or as plain JSON."""
    trial = Trial(7, 7, {"lr": 0.0123, "module__n_units": 64, "act": "relu"}, resource=9)
    result = FitResult(7, 1, 0, {"score": 0.9123456789}, None, 1.23456789, 0.0123456)
    header = {
        **{"search": "S", "seed": 0, "resource": None, "n_repeats": 1, "n_splits": 2},
        **{"return_train_score": False, "asynchronous": False, "fingerprint": {}},
    }
    event = fit_event(trial, result)
    seconds = {}
    for sync, lines in ((False, 2000), (True, 100)):
        # What is added is work of the processor, whoever else uses it; the disk is waited for.
        clock = time.perf_counter if sync else time.process_time
        with tempfile.TemporaryDirectory(dir=".") as folder:
            with open(f"{folder}/plain", "a+b") as file:
                begin = clock()
                for _ in range(lines):
                    file.write(json.dumps(event, allow_nan=False).encode() + b"\n")
                    file.flush()
                    if sync:
                        os.fsync(file.fileno())
                seconds["plain", sync] = (clock() - begin) / lines
            with Journal(f"{folder}/proved") as journal:
                journal.start(header)
                begin = clock()
                for _ in range(lines):
                    journal.append(event)
                    if sync:
                        journal.sync()
                seconds["proved", sync] = (clock() - begin) / lines
    added = seconds["proved", False] - seconds["plain", False]
    return {"hit": True, "added": added, "plain": seconds["plain", True]}


def cost(tries):
    """Describe what `checksum` measured, in the middle."""
    added, plain = (
        statistics.median(found[name] for found in tries) for name in ("added", "plain")
    )
    return (
        f"{1e6 * added:.0f} microseconds of {1e3 * plain:.2f} ms for a plain line that survives a "
        f"crash of the machine: {added / plain:.1%}"
    )
