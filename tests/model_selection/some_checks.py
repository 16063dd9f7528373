"""Those of scikit-learn's checks that look at a class more than at what it computes."""

from sklearn.utils.estimator_checks import estimator_checks_generator

WANTED = ("pickle", "dict_unchanged", "no_attributes_set_in_init", "overwrite_params", "clone")
WANTED += ("dont_overwrite", "n_features_in", "requires_y_none", "get_params", "set_params")
WANTED += ("do_not_raise", "readonly", "parameters_default", "mixin_order", "tags", "repr")


def check_some(search):
    """Run them; `check_estimator` of the same search is among the slow tests."""
    n_checks = 0
    for estimator, check in estimator_checks_generator(search):
        name = getattr(check, "func", check).__name__
        if any(part in name for part in WANTED):
            check(estimator)
            n_checks += 1
    assert n_checks > 10
