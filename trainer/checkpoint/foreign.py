"""What readers of other makes' checkpoints share: their faults, and the size of a claim."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from trainer.errors import JobError
from trainer.outside.echo import cut, shown

MOST_SHARED = 4
"""So many times the bytes of their file all tensors together may have."""
READING_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
"""What other people's readers raise for bytes that nobody wrote; a RecursionError is one too."""


_UNSAFE = "Weights only load failed"
_CAUSE = "WeightsUnpickler error: "


def said(error: BaseException) -> str:
    """Why, in one line: readers of tensors say it in many."""
    text = str(error)
    if text.startswith(_UNSAFE):
        # It goes on with how to run what is in the file all the same.
        text = text.partition(_CAUSE)[2] or "its pickle is none of tensors and plain values"
    first = text.strip().partition("\n")[0].strip()
    return cut(first or type(error).__name__)


def check_sizes(tensors: Mapping[str, torch.Tensor], size: int, source: Path) -> None:
    """Whether `size` bytes can hold these tensors: a few numbers may claim to be a whole lot.

    Tensors may share memory, as tied weights do, so that they come to more than their file.
    Raises JobError.
    """
    total = 0
    for name, tensor in tensors.items():
        total += tensor.numel() * tensor.element_size()
        if tensor.numel() * tensor.element_size() > size or total > MOST_SHARED * size:
            raise JobError(f"{source}: {shown(name)} claims more values than there are in the file")
