"""Whether what all fits share can go to other processes."""

from __future__ import annotations

from joblib.externals.loky.backend.reduction import dumps

__all__ = ["check_picklable"]


def check_picklable(setting):
    """Raise TypeError, naming the culprit, if what all fits share cannot go to other processes."""
    named = {"estimator": setting.estimator, "scoring": setting.scorer}
    params = setting.estimator.get_params(deep=True) if _pickle_error(setting.estimator) else {}
    # The innermost parameter that cannot be pickled says most.
    for name in sorted(params, key=lambda name: -name.count("__")):
        named = {name: params[name], **named} if _pickle_error(params[name]) else named
    for name, value in named.items():
        error = _pickle_error(value)
        if error is not None:
            raise TypeError(
                f"with worker processes everything must be picklable, but {name}={value!r} is "
                f"not ({error}); define it at the top level of a module, or use threads: "
                "joblib.parallel_config('threading')"
            ) from error


def _pickle_error(value):
    try:
        dumps(value)
    except Exception as error:
        return error
    return None
