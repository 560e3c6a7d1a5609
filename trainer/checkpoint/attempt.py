"""An attempt on its way: what it will be, and the receipts of those that have written their part.

They lie beside the data files, so that whoever has the right to commit can see that every part is
durable and finish the save, also when its first committer is gone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from trainer.checkpoint import log
from trainer.checkpoint.manifest import Manifest, checked, count, header, json_object, manifest_of
from trainer.checkpoint.receipt import merge, read_receipt
from trainer.checkpoint.store import Store
from trainer.errors import CheckpointDamaged, CheckpointError
from trainer.names import FAILURE, RECEIPT, Form

JSON = Any
logger = logging.getLogger(__name__)
HEADER = "attempt.json"
RECEIPT_SUFFIX, FAILURE_SUFFIX = ".receipt.json", ".failed.json"
MOST_WORDS = 2000
"""Characters of a reason that is told on."""


def write_header(store: Store, blank: Manifest, writers: Sequence[int]) -> None:
    """Record what the attempt will be and whose receipts make it whole."""
    document = header(blank) | {
        "kind": "attempt",
        "writers": list(writers),
        "files": [],
        "tensors": {n: [t.dtype, t.shape, []] for n, t in blank.tensors.items()},
    }
    path = f"{log.attempt_path(blank.attempt)}/{HEADER}"
    store.write(path, [json.dumps(document, separators=(",", ":")).encode()])


def read_header(store: Store, attempt: str) -> tuple[Manifest, list[int]]:
    """What an attempt will be, and whose receipts it waits for.

    Raises FileNotFoundError, CheckpointDamaged.
    """
    path = f"{log.attempt_path(attempt)}/{HEADER}"
    value = json_object(store.read(path), path)
    blank, writers = checked(
        path, lambda: (manifest_of(value), [count(rank) for rank in value["writers"]])
    )
    if blank.attempt != attempt:
        raise CheckpointDamaged(f"{path} is of another attempt, {blank.attempt}")
    return blank, writers


def write_receipt(store: Store, attempt: str, rank: int, receipt: JSON) -> None:
    """Say that a rank's file is durable."""
    _create(store, attempt, f"{rank:05d}{RECEIPT_SUFFIX}", receipt)


def write_failure(store: Store, attempt: str, rank: int, reason: str) -> None:
    """Say that a rank's file will never be there, unless somebody else has a copy to write."""
    _create(store, attempt, f"{rank:05d}{FAILURE_SUFFIX}", {"error": reason})


def forget_failure(store: Store, attempt: str, rank: int) -> None:
    """Somebody tries it again."""
    store.remove(f"{log.attempt_path(attempt)}/{rank:05d}{FAILURE_SUFFIX}")


def receipts_at(store: Store, attempt: str) -> set[int]:
    """The ranks whose receipts are there."""
    return _ranks(store.names(log.attempt_path(attempt)), RECEIPT)


def parts_at(store: Store, attempt: str) -> tuple[set[int], dict[int, str]]:
    """The ranks whose receipts are there, and those that have failed, with the reason."""
    names = store.names(log.attempt_path(attempt))
    there, failed = _ranks(names, RECEIPT), {}
    for rank in _ranks(names, FAILURE) - there:
        path = f"{log.attempt_path(attempt)}/{rank:05d}{FAILURE_SUFFIX}"
        try:
            said = read_receipt(store.read(path), path)
            failed[rank] = str(said.get("error", "it does not say why"))[:MOST_WORDS]
        except FileNotFoundError:
            continue
        except CheckpointDamaged as error:
            failed[rank] = str(error)
    return there, failed


def _create(store: Store, attempt: str, name: str, value: JSON) -> None:
    data = json.dumps(value, separators=(",", ":")).encode()
    store.create(f"{log.attempt_path(attempt)}/{name}", data)


def _ranks(names: Sequence[str], form: Form) -> set[int]:
    return {int(name.partition(".")[0]) for name in names if form.fits(name)}


def gather(store: Store, blank: Manifest, writers: Sequence[int]) -> Manifest:
    """The manifest of an attempt whose receipts are all there.

    Raises CheckpointError when a rank could not write, or a file is not as its receipt says;
    CheckpointDamaged for what is no receipt.
    """
    directory = log.attempt_path(blank.attempt)
    receipts = []
    for rank in sorted(writers):
        path = f"{directory}/{rank:05d}{RECEIPT_SUFFIX}"
        receipts.append(read_receipt(store.read(path), path))
    errors = [item["error"] for item in receipts if "error" in item]
    if errors:
        raise CheckpointError(f"version {blank.version} is not saved: {'; '.join(errors[:3])}")
    for item in receipts:
        if not item["path"].startswith(f"{directory}/"):
            raise CheckpointDamaged(f"{item['path']} is not of attempt {blank.attempt}")
        if store.size(item["path"]) != item["bytes"]:
            raise CheckpointError(f"{item['path']} is not as long as it was written")
    return merge(blank, receipts)


def discard(store: Store, attempt: str) -> None:
    """Remove what is there of it, as nobody will ever commit it; unless somebody has.

    What a commit raised says nothing: the record may have appeared before it failed.
    """
    try:
        if log.record_of(store, attempt) is None:
            store.remove_tree(log.attempt_path(attempt))
    except OSError as error:
        logger.warning("%s in %s can't be removed: %s", attempt, store.url, error)


def whole_attempts(store: Store, *, newer_than: int, execution: str) -> list[Manifest]:
    """Uncommitted attempts of this execution whose every part is durable, oldest version first."""
    if not execution:
        return []
    found = []
    for attempt in store.names(log.DATA):
        try:
            blank, writers = read_header(store, attempt)
            if blank.version <= newer_than or blank.execution != execution:
                continue
            if receipts_at(store, attempt).issuperset(writers):
                found.append(gather(store, blank, writers))
        except (FileNotFoundError, NotADirectoryError, CheckpointDamaged, CheckpointError):
            continue
    return sorted(found, key=lambda manifest: manifest.version)


def adopt(store: Store, writer: log.Writer, *, execution: str) -> list[str]:
    """Commit the whole attempts that an earlier generation left behind; returns their records."""
    newest = next(
        (s.version for _, s in log.summaries(store) if not isinstance(s, CheckpointDamaged)), -1
    )
    return [
        writer.commit(manifest)
        for manifest in whole_attempts(store, newer_than=newest, execution=execution)
    ]
