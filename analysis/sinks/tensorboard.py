"""TensorBoard: a folder a trial, an event file a part; values at training tokens.

TensorBoard reads the event files of a folder in the order of their names, so what comes later is a further file.
"""

from __future__ import annotations

from pathlib import Path

from analysis.sink import Batch, Sink

VERSION = "brain.Event:2"
"""First event of every file; readers know the format by it."""


def _write(batch: Batch, folder: Path) -> Path:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import RecordWriter

    path = folder / f"events.out.tfevents.{batch.part:010d}.orchestrator"
    writer = RecordWriter(str(path))
    writer.write(Event(wall_time=batch.points[0].seconds, file_version=VERSION).SerializeToString())
    for tokens, name, value, seconds in batch.points:
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
        writer.write(Event(wall_time=seconds, step=tokens, summary=summary).SerializeToString())
    writer.close()
    return path


PLUGIN = Sink(
    package="tensorboardX", extra="tensorboard", write=_write, place=lambda batch, name: f"{batch.trial}/{name}",
    hint="tensorboard --logdir {out}",
)
