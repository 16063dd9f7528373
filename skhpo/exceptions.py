"""Warnings and errors of the package."""

import errno

__all__ = [
    "BatchNormWarning",
    "JournalError",
    "NonFiniteLossError",
    "SearchStoppedWarning",
    "StorageError",
]

# What helps against the errors of a system that are common, by number.
_ADVICE: dict[int | None, str] = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room in the quota of its disk",
    errno.EFBIG: "raise the limit on the size of a file, or give a path on another disk",
    errno.EROFS: "its disk is read-only: make it writable, or give a path on another one",
    errno.EACCES: "change the permissions of its folder, or give another path",
    errno.EPERM: "change the permissions of its folder, or give another path",
    errno.EIO: "its disk may be damaged: see the log of the system, or give a path on another one",
    errno.ENOENT: "its folder is gone: make it again, or give another path",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}


class BatchNormWarning(UserWarning):
    """The moving averages of batch normalization do not stand for the training rows.

    Warned of at the end of a fit with `validation_fraction`, because predictions use the averages.
    ``recalibrate=True`` computes them again from the training rows.

    See Also
    --------
    skhpo.inspection.batch_norm_gap : What the averages change, layer by layer.

    Examples
    --------
    >>> import warnings
    >>> from skhpo.exceptions import BatchNormWarning
    >>> with warnings.catch_warnings(action="ignore", category=BatchNormWarning):
    ...     pass  # a fit whose averages do not matter
    """


class JournalError(ValueError):
    """A journal that cannot be used: unwritable, in use, damaged, or of another search.

    Raised before any training. The message names the file, and what to do.

    See Also
    --------
    StorageError : The system refused to write.
    skhpo.read_journal : The results in a journal.

    Examples
    --------
    >>> from skhpo import read_journal
    >>> from skhpo.exceptions import JournalError
    >>> try:
    ...     read_journal("no_such_file.jsonl")
    ... except JournalError:
    ...     print("nothing to continue")
    nothing to continue
    """


class NonFiniteLossError(ValueError):
    """The training loss of a network became infinite or NaN.

    A search counts such a fit as failed and goes on: `error_score` is its score.

    See Also
    --------
    skhpo.TorchClassifier : ``max_grad_norm`` limits the steps of the optimizer.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skhpo import TorchRegressor
    >>> from skhpo.exceptions import NonFiniteLossError
    >>> X, y = load_diabetes(return_X_y=True)
    >>> try:
    ...     TorchRegressor(optimizer="sgd", lr=1e10, random_state=0).fit(X, y)
    ... except NonFiniteLossError:
    ...     print("a smaller lr is needed")
    a smaller lr is needed
    """


class SearchStoppedWarning(UserWarning):
    """A search ended before its scheduler was done: interrupted, or out of time.

    The search has the results so far, and the best of them is refitted.

    See Also
    --------
    skhpo.HalvingHyperbandSearchCV : ``max_time`` and ``max_cost`` end a search.

    Examples
    --------
    A script that needs all candidates makes it an error:

    >>> import warnings
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skhpo import BayesSearchCV
    >>> from skhpo.exceptions import SearchStoppedWarning
    >>> search = BayesSearchCV(
    ...     DecisionTreeClassifier(), {"max_depth": [1, 2, 3]}, n_iter=3, max_time=600
    ... )
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", SearchStoppedWarning)
    ...     search = search.fit(*load_iris(return_X_y=True))
    """


class StorageError(OSError):
    """The system did not let the package write, or read, a file of its own: a full disk, say.

    The message says what helps. A search that is interrupted by it keeps what its journal has.

    See Also
    --------
    JournalError : A journal that can be read, and not be used.

    Notes
    -----
    The attributes are those of every `OSError`: ``errno``, ``strerror`` and ``filename``.

    Examples
    --------
    >>> import errno
    >>> from skhpo.exceptions import StorageError
    >>> print(StorageError(errno.ENOSPC, "No space left on device", "run.jsonl"))
    [Errno 28] No space left on device: 'run.jsonl'; make room on its disk
    """

    def __str__(self) -> str:
        advice = _ADVICE.get(self.errno, "see to that, or give another path")
        return f"[Errno {self.errno}] {self.strerror}: {self.filename!r}; {advice}"
