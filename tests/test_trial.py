import pickle
from dataclasses import FrozenInstanceError, fields

import pytest

from skhpo.trial import FitResult, Trial


@pytest.mark.parametrize(
    "record",
    [
        Trial(number=3, candidate=1, params={"a": [1]}, resource=9, parent=1, tags={"iter": 2}),
        FitResult(trial=3, split=0, test_scores={"score": 0.5}, error="Traceback"),
    ],
)
def test_records_travel(record):
    assert pickle.loads(pickle.dumps(record)) == record
    with pytest.raises(FrozenInstanceError):
        setattr(record, fields(record)[0].name, 0)


def test_trial_is_a_full_fit_by_default():
    trial = Trial(number=0, candidate=0, params={})
    assert (trial.resource, trial.parent, trial.tags) == (None, None, {})
