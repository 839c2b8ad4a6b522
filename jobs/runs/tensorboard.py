"""Metrics as TensorBoard files, for those who look at runs there. events.jsonl is what everything else reads."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c


class TensorBoard:
    """Writes one file per attempt into `folder`. A context manager.

    Each row is written at once, in this thread. The usual writer has a thread of its own, which dies of a full disk
    unheard, and whoever hands it the next rows waits for ever.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        """TensorBoard hides what earlier attempts wrote from `first_step` on. Raises OSError if the disk fails."""
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("wb", buffering=0)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One row of metrics. Raises OSError if the disk is full or fails."""
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=scalars)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        content = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        checks = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
        self._file.write(length + checks[0] + content + checks[1])  # a TFRecord
