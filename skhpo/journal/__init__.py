"""The journal: an append-only file of what a search has done, one JSON object a line.

The first line is the search's fingerprint, its seed and the names of its metrics' settings; then
comes a line per finished fit, and, for asynchronous searches, a line per ask and per tell. A
search is resumed by replaying: its scheduler asks for the same trials again, and those that
the journal has are answered from it.

=================== ==========================================================================
file                what it does
=================== ==========================================================================
``_events.py``      makes events of fits and reads them back; what their fields must be
``_lines.py``       events as lines with a number and a checksum, which follow from one another
``_locks.py``       waiting for a lock, and who has it
``_folder.py``      the folder beside the file: whose it is, split indices
``_fit_files.py``   files of single fits in it: checkpoints that rungs go on from, and kept models
``_predictions.py`` predictions of fits, one after the other in a file of each process
``_file.py``        the file: made whole, locked, appended to
``_shared.py``      the same, locked in turns by several processes
``_workers.py``     which of these are alive
``_reading.py``     what the lines say, to a search that goes on and to all others
``_repair.py``      a new journal of what is whole in a damaged one
=================== ==========================================================================
"""

from ._events import as_read, fit_event, params_of, result_of
from ._file import Journal, checked_path, worth_a_sync
from ._fit_files import CheckpointFile, Checkpoints, ModelFiles
from ._lines import seal
from ._predictions import PredictionFiles
from ._reading import Recorded, at_work, read_trials
from ._repair import Repaired, repair
from ._shared import SharedJournal

__all__ = [
    "CheckpointFile",
    "Checkpoints",
    "Journal",
    "ModelFiles",
    "PredictionFiles",
    "Recorded",
    "Repaired",
    "SharedJournal",
    "as_read",
    "at_work",
    "checked_path",
    "fit_event",
    "params_of",
    "read_trials",
    "repair",
    "result_of",
    "seal",
    "worth_a_sync",
]
