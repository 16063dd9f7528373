"""What TensorBoard's own code makes of a log."""

from types import SimpleNamespace

import numpy as np
from google.protobuf import json_format
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import (
    api_pb2,
    backend_context,
    get_experiment,
    list_session_groups,
)
from tensorboard.plugins.scalar import metadata as scalar_metadata

STATUSES = [api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING]


def read(log_dir):
    """Read a log through the HParams plugin.

    Returns
    -------
    SimpleNamespace
        ``hparams`` (name -> HParamInfo), ``metrics`` (tags), ``rows`` (one per session: ``name``,
        ``params``, ``metrics``, ``status``) and ``scalars`` (run -> tag -> list of (step, value)).
    """
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(log_dir))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(log_dir))
    backend = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    shared = context.RequestContext(), backend, ""
    experiment = get_experiment.Handler(*shared, api_pb2.GetExperimentRequest()).run()
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=1000, allowed_statuses=STATUSES
    )
    groups = list_session_groups.Handler(*shared, request).run()
    for message in (experiment, groups):
        json_format.MessageToJson(message)  # what the browser gets, which has no infinities
    return SimpleNamespace(
        hparams={info.name: info for info in experiment.hparam_infos},
        metrics=[info.name.tag for info in experiment.metric_infos],
        rows=sorted(map(_row, groups.session_groups), key=lambda row: row.name),
        scalars=_scalars(provider),
    )


def _row(group):
    (session,) = group.sessions
    return SimpleNamespace(
        name=session.name,
        params={
            name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()
        },
        metrics={value.name.tag: value.value for value in session.metric_values},
        status=api_pb2.Status.Name(session.status).removeprefix("STATUS_"),
        seconds=session.end_time_secs - session.start_time_secs,
    )


def _scalars(provider):
    found = provider.read_scalars(
        context.RequestContext(),
        experiment_id="",
        plugin_name=scalar_metadata.PLUGIN_NAME,
        downsample=1000,
    )
    return {
        run: {tag: [(p.step, np.float32(p.value)) for p in points] for tag, points in tags.items()}
        for run, tags in found.items()
    }


def choices(info):
    """List the discrete domain of a hyperparameter."""
    return list(info.domain_discrete)


def interval(info):
    """Return the ends of a hyperparameter's interval, None where it has none."""
    if not info.HasField("domain_interval"):
        return None
    return info.domain_interval.min_value, info.domain_interval.max_value
