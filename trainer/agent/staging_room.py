"""Whether a node's shared memory has room for what its ranks are going to stage there.

Containers come with 64 MB of it, which holds next to no state: every save and every mirror would
fail, one by one, while the training goes on. So it is said before.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint.staging import GRAIN, SLOTS, enlarge


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """`needed` bytes of shared memory in `directory`, which has `free` for them."""

    needed: int
    free: int
    directory: Path

    def __str__(self) -> str:
        return (
            f"staging takes {_size(self.needed)} of shared memory on this node, and "
            f"{self.directory} has {_size(self.free)} free: checkpoints and mirrors will fail; "
            f"{enlarge(f'{-(-self.needed // (64 << 20)) * 64}m')}"
        )


def needed_bytes(slot: int, ranks: int, *, mirrors: bool) -> int:
    """What a node's staged state takes, of so many ranks whose state has `slot` bytes each. Pure.

    `mirrors`: another node's state, as large as this one's, is kept here too.
    """
    return SLOTS * ranks * -(-slot // GRAIN) * GRAIN * (2 if mirrors else 1)


def shortage(directory: Path, needed: int) -> Shortage | None:
    """What is lacking in the file system of a staging directory. Raises OSError.

    What is staged there already counts as free.
    """
    taken = sum(path.stat().st_blocks * 512 for path in directory.glob("*/*.stage"))
    free = shutil.disk_usage(directory).free + taken
    if needed <= free:
        return None
    return Shortage(needed=needed, free=free, directory=directory.parent)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
