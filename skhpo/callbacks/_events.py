"""Event files as TensorBoard reads them, written without TensorFlow."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..files import storing, write_atomically
from ._hparams import Domain

__all__ = ["INCOMPLETE", "EventFile", "experiment", "session_end", "session_start"]

# A file while it is written; TensorBoard does not look at it.
INCOMPLETE = "incomplete"


class EventFile:
    """One event file, put in place complete or not at all.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    name : str
        Of the file; contains "tfevents", by which TensorBoard knows event files.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._records: list[bytes] = []
        self._add(file_version="brain.Event:2")

    def add_scalar(self, tag: str, value: float, step: int = 0) -> None:
        """Add one point of a scalar."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        self._add(summary=summary, step=step)

    def add_hparams(self, tag: str, **data: object) -> None:
        """Add a record of the HParams plugin."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        value = Summary.Value(
            tag=tag,
            metadata=metadata.create_summary_metadata(HParamsPluginData(**data)),
            tensor=metadata.NULL_TENSOR,
        )
        self._add(summary=Summary(value=[value]))

    def write(self) -> None:
        """Put the file in place, over an earlier one of the name."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        content = io.BytesIO()
        writer = RecordWriter(content)
        for record in self._records:
            writer.write(record)
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / INCOMPLETE
        write_atomically(part, content.getbuffer(), sync=False)
        with storing(self.folder / self.name):
            os.replace(part, self.folder / self.name)

    def _add(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(wall_time=time.time(), **content)
        self._records.append(event.SerializeToString())


def experiment(
    file: EventFile, domains: Mapping[str, Domain], metrics: Iterable[str], description: str
) -> None:
    """Add the record that says what is searched and measured.

    Parameters
    ----------
    file : EventFile
    domains : dict of str to Domain
    metrics : list of str
        Tags.
    description : str
    """
    from tensorboard.plugins.hparams import api_pb2, metadata

    types = {
        "bool": api_pb2.DATA_TYPE_BOOL,
        "number": api_pb2.DATA_TYPE_FLOAT64,
        "string": api_pb2.DATA_TYPE_STRING,
    }
    hparams = []
    for name, domain in domains.items():
        info = api_pb2.HParamInfo(name=name, type=types[domain.kind], differs=True)
        if domain.interval is not None:
            info.domain_interval.min_value, info.domain_interval.max_value = domain.interval
        elif domain.choices:
            info.domain_discrete.extend(domain.choices)
        hparams.append(info)
    file.add_hparams(
        metadata.EXPERIMENT_TAG,
        experiment=api_pb2.Experiment(
            description=description,
            time_created_secs=time.time(),
            hparam_infos=hparams,
            metric_infos=[
                api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=tag)
                for tag in metrics
            ],
        ),
    )


def session_start(
    file: EventFile, hparams: Mapping[str, bool | float | str], start_time: float
) -> None:
    """Add the record that opens a session.

    Parameters
    ----------
    file : EventFile
    hparams : dict of str to bool, float or str
    start_time : float
        Seconds since the epoch.
    """
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

    info = SessionStartInfo(start_time_secs=start_time)
    for name, value in hparams.items():
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, str):
            info.hparams[name].string_value = value
        else:
            info.hparams[name].number_value = value
    file.add_hparams(metadata.SESSION_START_INFO_TAG, session_start_info=info)


def session_end(file: EventFile, *, failed: bool) -> None:
    """Add the record that closes a session."""
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

    status = api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS
    info = SessionEndInfo(status=status, end_time_secs=time.time())
    file.add_hparams(metadata.SESSION_END_INFO_TAG, session_end_info=info)
