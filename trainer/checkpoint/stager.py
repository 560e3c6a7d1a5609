"""Copy a rank's state into a slot of shared memory: what it writes first, the rest for mirrors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.checkpoint.datafile import BoxEntry, FileLayout, lay_out
from trainer.checkpoint.geometry import intersect, remainder
from trainer.checkpoint.plan import file_order
from trainer.checkpoint.receipt import rows
from trainer.checkpoint.staging import FORMAT, Slot
from trainer.checkpoint.tensors import Bytes, LocalTensor, in_place
from trainer.errors import CheckpointError
from trainer.supervision import start_thread

JSON = Any
REST_ALIGNMENT = 64
HEADER_SLACK = 8192


class Staged:
    """A state on its way into shared memory.

    `wait` before the tensors change: it returns when the copy is whole and described. `version`
    is the state's, `attempt` the save it belongs to, `bytes` what is copied.
    """

    def __init__(
        self, version: int, attempt: str, size: int, copy: Callable[[], Path], overlap: bool
    ) -> None:
        self.version = version
        self.attempt = attempt
        self.bytes = size
        self._path: Path | None = None
        self._fault: BaseException | None = None
        self._copy = copy
        self._thread = start_thread(self._run, name="stage", failed=self._fail) if overlap else None
        if not overlap:
            self._run()

    def _run(self) -> None:
        try:
            self._path = self._copy()
        except (RuntimeError, OSError, CheckpointError) as error:
            self._fault = error

    def _fail(self, error: Exception) -> None:
        self._fault = error

    def wait(self) -> Path:
        """The path of the description, for the agent. Raises what the copy raised."""
        if self._thread is not None:
            self._thread.join()
        if self._fault is not None:
            raise self._fault
        assert self._path is not None
        return self._path


def rest_of(local: Mapping[str, LocalTensor], written: Sequence[BoxEntry]) -> list[BoxEntry]:
    """The boxes of this rank that others write."""
    mine: dict[str, list[BoxEntry]] = {}
    for entry in written:
        mine.setdefault(entry.name, []).append(entry)
    rest = []
    for name, item in local.items():
        for part in item.parts:
            own = [e.box for e in mine.get(name, ()) if intersect(e.box, part.box) == e.box]
            rest += [BoxEntry(name, item.dtype, item.shape, b) for b in remainder(part.box, own)]
    return sorted(rest, key=file_order)


def stage(
    slot: Slot,
    memory: Bytes,
    local: Mapping[str, LocalTensor],
    written: Sequence[BoxEntry],
    rest: Sequence[BoxEntry],
    metadata: dict[str, str],
    description: Mapping[str, JSON],
    *,
    pending: bool,
    overlap: bool,
) -> Staged:
    """Begin the copy of the boxes into the slot's memory; then its description is published.

    `memory` has at least `room_for` bytes.
    """
    layout = lay_out(written, metadata)
    starts, size = _after(layout, rest)
    whole = {
        "format": FORMAT,
        "format_version": 1,
        "slot": str(slot.path),
        **description,
        "bytes": layout.bytes,
        "held_bytes": size,
        "boxes": rows(written, layout.starts),
        "held": rows(rest, starts),
    }
    places = [*zip(written, layout.starts, strict=True), *zip(rest, starts, strict=True)]
    sources = [
        (local[entry.name].view_of(entry.box), memory[at : at + entry.bytes])
        for entry, at in places
    ]
    ready = _ready_event(sources)

    def copy() -> Path:
        memory[: len(layout.header)] = np.frombuffer(layout.header, dtype=np.uint8)
        _copy(sources, ready)
        return slot.publish(whole, pending=pending)

    return Staged(int(description["version"]), description["attempt"], size, copy, overlap)


def room_for(written: Sequence[BoxEntry], rest: Sequence[BoxEntry]) -> int:
    """The bytes that a slot needs for these boxes, at most."""
    header = lay_out(written, {}).header
    data = sum(entry.bytes for entry in (*written, *rest))
    return len(header) + HEADER_SLACK + data + REST_ALIGNMENT


def _after(layout: FileLayout, rest: Sequence[BoxEntry]) -> tuple[list[int], int]:
    starts = []
    size = -(-layout.bytes // REST_ALIGNMENT) * REST_ALIGNMENT
    for entry in rest:
        starts.append(size)
        size += entry.bytes
    return starts, size


def _ready_event(sources: Sequence[tuple[torch.Tensor, Bytes]]) -> torch.Event | None:
    """What a copy on another stream has to wait for, where the state is on a device."""
    device = next((view.device for view, _ in sources if view.device.type != "cpu"), None)
    if device is None:
        return None
    event = torch.Event(device)
    event.record(torch.accelerator.current_stream(device))
    return event


def _copy(sources: Sequence[tuple[torch.Tensor, Bytes]], ready: torch.Event | None) -> None:
    if ready is None:
        _copy_all(sources)
        return
    stream = torch.Stream(ready.device)
    ready.wait(stream)
    with stream:
        _copy_all(sources)
    stream.synchronize()


def _copy_all(sources: Sequence[tuple[torch.Tensor, Bytes]]) -> None:
    with torch.no_grad():
        for view, place in sources:
            mine = in_place(view)
            if mine is not None:
                np.copyto(place, mine)
            else:
                torch.from_numpy(place).view(view.dtype).view(view.shape).copy_(
                    view, non_blocking=True
                )
