"""TensorBoard: one event file a run, written without TensorFlow.

The same logs give the same bytes under the same name. What is new is appended, so that a TensorBoard that is open sees
it; where what was there has changed, as after a restart, the file is replaced.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from core.files import append_to, write_atomic
from core.reading import LOG_BYTES, Unreadable, read_bytes
from launchers.mirror.mirrored import MirroredRun

if TYPE_CHECKING:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

PACKAGE = "tensorboardX"
EXTRA = "tensorboard"
SHOWN_BY = "tensorboard --logdir {folder}"

NAME = "events.out.tfevents.0.mirror"  # TensorBoard looks for `tfevents`
SUCCESS, FAILURE = 1, 2  # Status of tensorboardX/proto/api.proto


def write(run: MirroredRun, folder: Path) -> None:
    path = folder / run.run / NAME
    whole = b"".join(_record(event) for event in _events(run))
    try:
        before = read_bytes(path, LOG_BYTES)
    except (FileNotFoundError, Unreadable):
        before = b""
    if before and whole.startswith(before):
        with append_to(path) as file:
            file.write(whole[len(before) :])
    else:
        write_atomic(path, whole)


def is_there(run: str, folder: Path) -> bool:
    return (folder / run / NAME).is_file()


def _record(event: "Event") -> bytes:
    """A record of a TFRecord file: length, its checksum, the bytes, their checksum."""
    from tensorboardX.record_writer import masked_crc32c  # an extra, here and below

    data = event.SerializeToString(deterministic=True)
    length = struct.pack("<Q", len(data))
    sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
    return length + next(sums) + data + next(sums)


def _events(run: MirroredRun) -> Iterator["Event"]:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
    from tensorboardX.proto.summary_pb2 import Summary

    yield Event(wall_time=run.started, file_version="brain.Event:2")
    start = SessionStartInfo(start_time_secs=run.started)
    for key, value in run.settings.items():
        kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
        setattr(start.hparams[key], kind, value)
    yield _of_hparams(run.started, "session_start_info", HParamsPluginData(session_start_info=start))
    for point in run.points:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in point.values.items()]
        yield Event(wall_time=point.time, step=point.tokens, summary=Summary(value=values))
    if run.state in ("complete", "failed"):
        end = run.points[-1].time if run.points else run.started
        status = SUCCESS if run.state == "complete" else FAILURE
        info = SessionEndInfo(status=status, end_time_secs=end)
        yield _of_hparams(end, "session_end_info", HParamsPluginData(session_end_info=info))


def _of_hparams(time: float, tag: str, data: "HParamsPluginData") -> "Event":
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata

    content = data.SerializeToString(deterministic=True)
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content)
    value = Summary.Value(tag=f"_hparams_/{tag}", metadata=SummaryMetadata(plugin_data=plugin))
    return Event(wall_time=time, summary=Summary(value=[value]))
