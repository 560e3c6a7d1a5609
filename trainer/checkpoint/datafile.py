"""Data files: safetensors' format, so that any tool can read them.

Eight bytes of header length, a JSON header, then the bytes of each box one after the other. The
header's metadata carries the version and the attempt, so that a file can't pass for another's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.checkpoint.geometry import Box
from trainer.errors import CheckpointDamaged

ALIGNMENT = 4096
METADATA = "__metadata__"
VERSION_KEY = "remesh.version"
ATTEMPT_KEY = "remesh.attempt"
MAX_HEADER_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class BoxEntry:
    """A box to write: of which tensor, of what element type and whole shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    box: Box

    @property
    def bytes(self) -> int:
        return self.box.volume * ELEMENT_TYPES[self.dtype].size

    @property
    def key(self) -> str:
        """The entry's name in the file: the tensor's, with the offsets where it is a part."""
        if self.box.sizes == self.shape and self.name != METADATA:
            return self.name
        return f"{self.name}@{','.join(map(str, self.box.offsets))}"


@dataclass(frozen=True, slots=True)
class FileLayout:
    """A data file before it is written: its first bytes and where each box will start."""

    header: bytes
    starts: tuple[int, ...]
    bytes: int


def lay_out(entries: Sequence[BoxEntry], metadata: dict[str, str]) -> FileLayout:
    """Place the boxes one after the other; data begin on a page, to be written straight."""
    position = 0
    table: dict[str, object] = {METADATA: metadata}
    starts = []
    for entry in entries:
        kind = ELEMENT_TYPES[entry.dtype]
        key = entry.key
        while key in table:
            key += "~"
        table[key] = {
            "dtype": kind.tag or "U8",
            "shape": list(entry.box.sizes) if kind.tag else [entry.bytes],
            "data_offsets": [position, position + entry.bytes],
        }
        starts.append(position)
        position += entry.bytes
    text = json.dumps(table, separators=(",", ":")).encode()
    length = -(-(8 + len(text)) // ALIGNMENT) * ALIGNMENT - 8
    head = length.to_bytes(8, "little") + text.ljust(length)
    return FileLayout(head, tuple(len(head) + start for start in starts), len(head) + position)


def metadata(version: int, generation: int, attempt: str) -> dict[str, str]:
    """What a data file says of itself."""
    return {
        "format": "pt",
        VERSION_KEY: str(version),
        "remesh.generation": str(generation),
        ATTEMPT_KEY: attempt,
    }


def header_length(first_eight: bytes, path: str, file_bytes: int) -> int:
    """Bytes of the JSON header. Raises CheckpointDamaged when it can't be so long."""
    length = int.from_bytes(first_eight, "little")
    if len(first_eight) != 8 or length > min(MAX_HEADER_BYTES, file_bytes - 8):
        raise CheckpointDamaged(f"{path} is no data file: its header is cut short or altered")
    return length


def parse_header(text: bytes, path: str) -> dict[str, dict[str, object]]:
    """The header's table, `__metadata__` among it. Raises CheckpointDamaged."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointDamaged(f"{path} has an altered header: {error}") from error
    if not isinstance(table, dict) or not all(isinstance(item, dict) for item in table.values()):
        raise CheckpointDamaged(f"{path} has an altered header")
    return table
