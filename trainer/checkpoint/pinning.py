"""Page-locked host memory, into which a CUDA device copies by itself while the host goes on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint.tensors import Bytes

logger = logging.getLogger(__name__)


class Pins:
    """Slots' memory as the device knows it.

    What is locked stays mapped: were its pages given back first, the device would go on writing
    to where they had been.
    """

    def __init__(self) -> None:
        self._held: dict[Path, Bytes] = {}

    def pin(self, slot: Path, memory: Bytes) -> None:
        """Lock a slot's memory, once. Where that is refused, copies are slower and as right."""
        held = self._held.get(slot)
        if held is not None and held.ctypes.data == memory.ctypes.data:
            return
        self._unpin(slot)
        runtime = _cudart()
        status = runtime.cudaHostRegister(memory.ctypes.data, memory.nbytes, 0)
        if status == runtime.cudaError.success:
            self._held[slot] = memory
        else:
            logger.warning("%s can't be page-locked: %s", slot, status)

    def release(self) -> None:
        """Give everything back. No copy may be on its way."""
        for slot in list(self._held):
            self._unpin(slot)

    def _unpin(self, slot: Path) -> None:
        memory = self._held.pop(slot, None)
        if memory is not None:
            _cudart().cudaHostUnregister(memory.ctypes.data)


def _cudart() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]
