"""One rank's part of a save: its data file and the receipt for it, or the word that none will come.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from trainer.checkpoint.attempt import (
    forget_failure,
    parts_at,
    write_failure,
    write_header,
    write_receipt,
)
from trainer.checkpoint.checksum import Bytes, block_sums
from trainer.checkpoint.datafile import header_length, metadata, parse_header
from trainer.checkpoint.keep import Keep
from trainer.checkpoint.manifest import Manifest
from trainer.checkpoint.receipt import blank, receipt
from trainer.checkpoint.room import Coming, with_room
from trainer.checkpoint.staging import staged_bytes
from trainer.checkpoint.store import Store
from trainer.checkpoint.unsaved import mending
from trainer.errors import CheckpointDamaged, CheckpointError
from trainer.supervision import ThreadPool, awaited

JSON = Any


def write_part(store: Store, staged: JSON) -> None:
    """Write the data file and its receipt, and at the rank that commits what the save will be.

    Raises CheckpointError where it can't be written: nothing of it is left then, but a receipt
    that says so where that has room.
    """
    try:
        if staged["commit"] is not None:
            with_room(store, coming(staged), lambda: _write_header(store, staged), now=time.time())
        there, failed = parts_at(store, staged["attempt"])
        if staged["path"] is None or staged["rank"] in there:
            return
        if staged["rank"] in failed:
            forget_failure(store, staged["attempt"], staged["rank"])
        with_room(store, coming(staged), lambda: _write_file(store, staged), now=time.time())
    except (OSError, CheckpointError) as error:
        mend = mending(error) if isinstance(error, OSError) else ""
        told = f"rank {staged['rank']} can't write: {error}{mend}"
        with contextlib.suppress(OSError):
            write_failure(store, staged["attempt"], staged["rank"], told)
        raise CheckpointError(told) from error


def coming(staged: JSON) -> Coming:
    """The save that a staged state belongs to."""
    return Coming(
        version=staged["version"],
        generation=staged["generation"],
        execution=staged["execution"],
        attempt=staged["attempt"],
        bytes=staged.get("total", staged["bytes"]),
        keep=keep_of(staged),
    )


def keep_of(staged: JSON) -> Keep:
    """What stays once the staged state is saved."""
    return Keep(**staged.get("keep", {}))


def blank_of(staged: JSON) -> Manifest:
    """What the checkpoint will be, without its files. Of the staged state that is to commit it."""
    commit = staged["commit"]
    return blank(
        {name: (dtype, tuple(shape)) for name, (dtype, shape) in commit["kinds"].items()},
        version=staged["version"],
        generation=staged["generation"],
        execution=staged["execution"],
        attempt=staged["attempt"],
        identity=staged["identity"],
        values=staged["values"],
        mesh=commit["mesh"],
        world_size=commit["world_size"],
        block=staged["block"],
    )


def _write_header(store: Store, staged: JSON) -> None:
    write_header(store, blank_of(staged), staged["commit"]["writers"])


def _write_file(store: Store, staged: JSON) -> None:
    data = staged_bytes(staged["slot"], staged["bytes"])
    _check_tag(data, staged)
    with ThreadPool(1, name="checksums") as pool:
        sums = pool.submit(_sums, data, staged, failed=awaited)
        store.write(staged["path"], [data.data])
    account = receipt(staged["path"], staged["bytes"], staged["boxes"], sums.result())
    try:
        write_receipt(store, staged["attempt"], staged["rank"], account)
    except OSError:
        with contextlib.suppress(OSError):
            store.remove(staged["path"])
        raise


def _check_tag(data: Bytes, staged: JSON) -> None:
    length = header_length(data[:8].tobytes(), staged["slot"], len(data))
    tag = parse_header(data[8 : 8 + length].tobytes(), staged["slot"]).get("__metadata__")
    if tag != metadata(staged["version"], staged["generation"], staged["attempt"]):
        raise CheckpointDamaged(
            f"{staged['slot']} holds {tag}, not version {staged['version']}: it was staged anew "
            "before it was written"
        )


def _sums(data: Bytes, staged: JSON) -> list[list[int]]:
    return [
        block_sums(data[start : start + size], staged["block"], staged["version"])
        for *_, start, size in staged["boxes"]
    ]
