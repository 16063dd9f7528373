"""scikit-learn's metadata routing: metadata of the module's ``forward`` and of `train_split`."""

from __future__ import annotations

import inspect

from sklearn import get_config
from sklearn.utils.metadata_routing import process_routing

__all__ = ["drop_made_request_methods", "routed"]


def drop_made_request_methods(cls):
    """Drop the ``set_*_request`` methods that scikit-learn derived from the signatures of a class.

    They would reject the metadata of the module's ``forward``, which may have any name.
    """
    for method in ("fit", "partial_fit"):
        name = f"set_{method}_request"
        if name in vars(cls) and not inspect.isfunction(vars(cls)[name]):
            delattr(cls, name)


def routed(net, method, fit_params):
    """Return the parameters of the module's ``forward``, and those of `train_split`.

    Without routing both get all of them, as in skorch. With routing TypeError is raised for a
    parameter that was not requested.
    """
    if not get_config()["enable_metadata_routing"]:
        return fit_params, fit_params
    requests = net._get_metadata_request()
    if method == "partial_fit" and not any(requests.partial_fit.requests.values()):
        # Without requests for partial_fit those for fit hold, as in a search.
        method = "fit"
    routed = process_routing(net, method, **fit_params)
    asked = getattr(requests, method).requests
    of_forward = {k: v for k, v in fit_params.items() if asked.get(k)}
    return of_forward, routed.get("splitter", {"split": {}})["split"]
