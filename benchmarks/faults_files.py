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
from pathlib import Path

import numpy as np
import torch
from scipy.stats import loguniform
from sklearn.datasets import load_iris
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
    X, y = load_iris(return_X_y=True)
    search = HalvingHyperbandSearchCV(
        TorchClassifier(module__n_units=8, batch_size=32),
        {"lr": loguniform(1e-3, 1e-1)},
        resource="max_epochs",
        max_resources=9,
        n_brackets=1,
        cv=ShuffleSplit(2, test_size=0.5),
        random_state=0,
        refit=False,
        journal=journal,
        **{"lockstep": False, **kwargs},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = search.fit(X[::2].astype("float32"), y[::2]).cv_results_
    return {name: results[name] for name in results if not name.endswith("_time")}


def same(a, b):
    """Whether two searches found the same."""
    return list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)


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


def damage(runs):
    """Flips, cuts, swaps and edits in journal, splits and checkpoints, of searches cut short."""
    torch.set_num_threads(1)
    silent = raw = repaired = worse = 0
    tried = refused = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        bases = []
        for name, stop, kwargs in [
            ("short", 22, {}),
            ("finished", 0, {}),
            ("asynchronous", 22, {"asynchronous": True}),
        ]:
            journal = folder / name
            fit(journal, callbacks=[Stop(stop)], **kwargs)
            reference = fit(copy(journal, folder / f"{name}-whole"), **kwargs)
            bases.append((journal, reference, kwargs))
        for i in runs:
            tried += 1
            journal, reference, kwargs = bases[i % len(bases)]
            with tempfile.TemporaryDirectory(dir=folder) as place:
                damaged = copy(journal, Path(place) / "run")
                harm(damaged)
                try:
                    silent += not same(fit(damaged, **kwargs), reference)
                except JournalError:
                    refused += 1
                    with contextlib.suppress(JournalError):
                        repair(damaged, Path(place) / "repaired")
                        found = fit(Path(place) / "repaired", **kwargs)
                        repaired += 1
                        worse += not same(found, reference)
                except Exception:
                    raw += 1
    return {
        "what": "byte flips, cuts, swaps, edits in journal, splits, checkpoints",
        "tried": tried,
        "found": f"{silent} different results in silence, {raw} raw exceptions ({refused} refused; "
        f"{repaired} of them repaired, {worse} with different results)",
        "to reach": "0, 0",
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


def foreign(runs):
    """Things that are not ours where the package writes, reads and removes: all kinds once."""
    changed, raw, kinds = [], [], 0
    for name, content in AS_JOURNAL.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "notes"
            path.write_bytes(content)
            attempt(name, path, [folder], changed, raw)
            kinds += 1
    for where, what in PLANTED:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as elsewhere:
            journal, log = Path(folder) / "run", Path(folder) / "log"
            for name in ("splits.npz", "owner", "0-0-0.pt", "notes.txt", "skhpo.json"):
                (Path(elsewhere) / name).write_bytes(TEXT)
            fit(journal, callbacks=[Stop(22), TensorBoardLogger(log)])
            places = {"journal": journal, "files": Path(f"{journal}.files")}
            places |= {name: log / name for name in ("skhpo.json", "incomplete")}
            place = places.get(where, Path(f"{journal}.files") / where)
            victim = Path(elsewhere) if where == "files" else Path(elsewhere) / "notes.txt"
            plant(place, what, victim)
            watched = [elsewhere, place] if what == "folder" else [elsewhere]
            attempt(f"{what} as {where}", journal, watched, changed, raw, log)
            kinds += 1
    return {
        "what": "files of others where journals, folders and logs are to be",
        "tried": f"{kinds} kinds",
        "found": f"{len(changed)} changed or deleted, {len(raw)} raw exceptions"
        + "".join(f"; {name}" for name in changed + raw),
        "to reach": "0, 0",
    }


def attempt(name, journal, watched, changed, raw, log=None):
    """Read and fit; note whether something changed that is not ours."""
    before = [state_of(folder) for folder in watched]
    callbacks = [TensorBoardLogger(log)] if log else []
    for use in (read_journal, lambda path: fit(path, callbacks=callbacks)):
        try:
            use(journal)
        except (JournalError, StorageError):
            pass
        except Exception as error:
            if "log_dir must" not in str(error) and "in log_dir must" not in str(error):
                raw.append(f"{name}: {type(error).__name__}: {error}"[:120])
    if [state_of(folder) for folder in watched] != before:
        changed.append(name)


# --- what it costs


def checksums(runs):
    """Writing a line: with number, checksum and looks at the file, or as plain JSON."""
    trial = Trial(7, 7, {"lr": 0.0123, "module__n_units": 64, "act": "relu"}, resource=9)
    result = FitResult(7, 1, 0, {"score": 0.9123456789}, None, 1.23456789, 0.0123456)
    header = {
        **{"search": "S", "seed": 0, "resource": None, "n_repeats": 1, "n_splits": 2},
        **{"return_train_score": False, "asynchronous": False, "fingerprint": {}},
    }
    event = fit_event(trial, result)
    seconds = {(kind, sync): [] for kind in ("plain", "proved") for sync in (False, True)}
    for _ in runs:
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
                    seconds["plain", sync].append((clock() - begin) / lines)
                with Journal(f"{folder}/proved") as journal:
                    journal.start(header)
                    begin = clock()
                    for _ in range(lines):
                        journal.append(event)
                        if sync:
                            journal.sync()
                    seconds["proved", sync].append((clock() - begin) / lines)
    middle = {key: statistics.median(values) for key, values in seconds.items()}
    added, plain = middle["proved", False] - middle["plain", False], middle["plain", True]
    return {
        "what": "cost of number, checksum and looks at the file, per line of the journal",
        "tried": f"{len(seconds['plain', True])} x 2,100 lines",
        "found": f"{1e6 * added:.0f} microseconds of {1e3 * plain:.2f} ms for a plain line that "
        f"survives a crash of the machine: {added / plain:.1%}",
        "to reach": "under 3%",
    }
