"""Notification of epochs: the net itself, skorch's callbacks, and scikit-learn's."""

from __future__ import annotations

import dis

from skorch.callbacks import LRScheduler

from ._callbacks import given_callbacks

__all__ = ["HookedWatcher", "NetWatcher", "begin_training", "stopped_by_skorch"]


class NetWatcher:
    """Notifies a net, and its callbacks except skorch's defaults.

    `datasets` (`dataset_train` and `dataset_valid`) are passed to skorch's callbacks, `hook_data`
    to scikit-learn's, whose `context` may be None.
    """

    def __init__(self, net, datasets, context=None, hook_data=None):
        self.net = net
        self.datasets = datasets
        self.context = context
        self.hook_data = hook_data

    def epoch_begins(self):
        """Open a row of the history; return whether to train the epoch."""
        if self.context is not None:
            self.of_epoch = self.context.subcontext(task_name="epoch")
            self.of_epoch.call_on_fit_task_begin(**self.hook_data)
        return self._tell("on_epoch_begin")

    def epoch_ends(self):
        """Notify of the completed row; return whether to go on."""
        go_on = self._tell("on_epoch_end")
        self._print()
        return go_on

    def epoch_counted(self):
        """Notify scikit-learn's callbacks of the end of the epoch; return whether to go on."""
        if self.context is None:
            return True
        snapshot = {"reconstruction_attributes": self.net._snapshot}
        return not self.of_epoch.call_on_fit_task_end(**self.hook_data, **snapshot)

    def _tell(self, event):
        net = self.net
        getattr(net, event)(net, **self.datasets)
        given = given_callbacks(net).values()

        def tell_given():
            for callback in given:
                getattr(callback, event)(net, **self.datasets)

        return not given or not stopped_by_skorch(net, tell_given)

    def _print(self):
        if self.net.verbose:
            callbacks = dict(self.net.callbacks_)
            if "print_log" in callbacks:
                callbacks["print_log"].on_epoch_end(self.net)


class HookedWatcher(NetWatcher):
    """Notifies all callbacks, as skorch does; they record and print."""

    def _tell(self, event):
        return not stopped_by_skorch(self.net, lambda: self.net.notify(event, **self.datasets))

    def _print(self):
        """Do nothing: a callback prints."""


def stopped_by_skorch(net, function):
    """Call a function in the environment of skorch's callbacks; return whether one stopped."""
    try:
        with net._as_callbacks_expect():
            function()
    except KeyboardInterrupt as error:
        if not _raised_by_skorch(error):
            raise
        return True
    return False


def _raised_by_skorch(error):
    """Whether a callback of skorch raised the error to stop training, as EarlyStopping does.

    A signal that arrives during such a callback is not raised by a `raise` statement.
    """
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    frame = last.tb_frame
    in_callback = frame.f_globals.get("__name__", "").startswith("skorch.callbacks.")
    return in_callback and frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def begin_training(net, X, y):
    """Notify skorch's callbacks, except schedules of the learning rate that must continue."""
    net.on_train_begin(net, X=X, y=y)
    for _, callback in net.callbacks_:
        scheduler = getattr(callback, "lr_scheduler_", None)
        continues = isinstance(callback, LRScheduler) and net.n_iter_ > 0
        if continues and scheduler is not None and scheduler.optimizer is net.optimizer_:
            continue
        callback.on_train_begin(net, X=X, y=y)
