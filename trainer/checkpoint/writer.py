"""What an agent does with a staged state: write it, wait for the others' parts, commit.

Imports no torch. `save_staged` blocks; `BackgroundWriter` runs it in threads.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.checkpoint import log
from trainer.checkpoint.attempt import gather, receipts_at, write_header, write_receipt
from trainer.checkpoint.checksum import Bytes, block_sums
from trainer.checkpoint.datafile import header_length, metadata, parse_header
from trainer.checkpoint.keep import Keep, clean
from trainer.checkpoint.manifest import Manifest
from trainer.checkpoint.receipt import blank, receipt
from trainer.checkpoint.staging import read_description, staged_bytes
from trainer.checkpoint.store import Store, open_store
from trainer.errors import CheckpointDamaged, CheckpointError, GenerationOver

JSON = Any
logger = logging.getLogger(__name__)
OPENED = "opened.json"
FIRST_POLL = 0.01
LAST_POLL = 0.5
PATIENCE = 600.0
TURN = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one rank's part of a save ended; `path` is the record where rank 0's agent committed it.

    `bytes` are of the whole checkpoint there, of the rank's file elsewhere; `seconds` count from
    the moment it was staged; `error` is None when all went well. `url` and `options` are of the
    checkpoint directory.
    """

    version: int
    generation: int
    rank: int
    path: str | None
    bytes: int
    seconds: float
    error: str | None = None
    url: str = ""
    options: Mapping[str, JSON] = field(default_factory=dict)


class BackgroundWriter:
    """Writes staged states in threads of this process, and commits those of rank 0."""

    def __init__(
        self, report: Callable[[Outcome], None] | None = None, *, threads: int = 8
    ) -> None:
        """`report` is called from a thread, once for each state that was submitted."""
        self._report = report
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="checkpoint")
        self._abandoned = threading.Event()
        self._last: Future[Outcome] | None = None

    def submit(self, description: str | Path) -> Future[Outcome]:
        """Write what this file describes; the slot is free once its mark is gone.

        Called from one thread. Versions are committed in this order, but for one that makes the
        next wait too long: it comes too late then.
        """
        self._last = self._pool.submit(self._save, Path(description), self._last)
        return self._last

    def close(self, *, wait: bool = True) -> None:
        """End once all that was submitted is done; without `wait`, give up missing parts."""
        if not wait:
            self.abandon()
        self._pool.shutdown(wait=True, cancel_futures=not wait)

    def abandon(self) -> None:
        """Wait no longer for other ranks' parts."""
        self._abandoned.set()

    def _save(self, description: Path, before: Future[Outcome] | None) -> Outcome:
        def turn() -> None:
            if before is not None:
                wait([before], timeout=TURN)

        outcome = save_staged(description, given_up=self._abandoned.is_set, turn=turn)
        if self._report is not None:
            self._report(outcome)
        return outcome


def save_staged(
    description: Path,
    *,
    given_up: Callable[[], bool] = lambda: False,
    patience: float = PATIENCE,
    copy_of: str = "",
    turn: Callable[[], object] = lambda: None,
) -> Outcome:
    """Write one rank's staged part; at rank 0, commit once every rank's part is durable.

    `patience` is how many seconds may go by without another rank's receipt. `copy_of` names the
    node whose mirror this is: the rank's own node may be writing too, so that the copy's file has
    another name, and whichever has its receipt first counts. `turn` waits until it may be
    committed. Never raises what a store or another rank did: the outcome says it.
    """
    staged = read_description(description)
    if copy_of and staged["path"] is not None:
        stem, dot, suffix = staged["path"].rpartition(".")
        staged["path"] = f"{stem}.{copy_of}{dot}{suffix}"
    path, size, error = None, staged["bytes"], None
    try:
        store = open_store(staged["url"], staged["options"])
        try:
            _write_part(store, staged)
        finally:
            description.with_suffix(".pending").unlink(missing_ok=True)
        if staged["commit"] is not None:
            manifest = _wait_for_parts(store, staged, given_up, patience)
            turn()
            path, size = _commit(store, staged, manifest, description), manifest.bytes
    except (OSError, CheckpointError, GenerationOver) as failure:
        error = str(failure)
        logger.error("version %d is not saved: %s", staged["version"], error)
    if path is not None:
        _keep(store, staged)
    return Outcome(
        version=staged["version"],
        generation=staged["generation"],
        rank=staged["rank"],
        path=path,
        bytes=size,
        seconds=time.time() - staged["time"],
        error=error,
        url=staged["url"],
        options=staged["options"],
    )


def _write_part(store: Store, staged: JSON) -> None:
    """Write the data file and its receipt; where that fails, a receipt that says so."""
    if staged["commit"] is not None:
        write_header(store, _blank(staged), staged["commit"]["writers"])
    if staged["path"] is None or staged["rank"] in receipts_at(store, staged["attempt"]):
        return
    try:
        data = staged_bytes(staged["slot"], staged["bytes"])
        _check_tag(data, staged)
        with ThreadPoolExecutor(1) as pool:
            sums = pool.submit(_sums, data, staged)
            store.write(staged["path"], [data.data])
        account = receipt(staged["path"], staged["bytes"], staged["boxes"], sums.result())
    except (OSError, CheckpointError) as error:
        account = {"error": f"rank {staged['rank']} can't write: {error}"}
        write_receipt(store, staged["attempt"], staged["rank"], account)
        raise
    write_receipt(store, staged["attempt"], staged["rank"], account)


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


def _blank(staged: JSON) -> Manifest:
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


def _wait_for_parts(
    store: Store, staged: JSON, given_up: Callable[[], bool], patience: float
) -> Manifest:
    writers = set(staged["commit"]["writers"])
    there: set[int] = set()
    pause, last = FIRST_POLL, time.monotonic()
    while True:
        found = receipts_at(store, staged["attempt"]) & writers
        if found == writers:
            return gather(store, _blank(staged), staged["commit"]["writers"])
        now = time.monotonic()
        if found != there:
            there, last, pause = found, now, FIRST_POLL
        if given_up() or now - last > patience:
            missing = ", ".join(map(str, sorted(writers - there)[:8]))
            raise CheckpointError(f"no part came from rank {missing}")
        time.sleep(pause)
        pause = min(pause * 1.5, LAST_POLL)


def _commit(store: Store, staged: JSON, manifest: Manifest, description: Path) -> str | None:
    """Commit, if need be by the right that this node's worker has taken for a later generation.

    None where a later version was committed first.
    """
    generation, opened = staged["generation"], staged["commit"]["opened"]
    while True:
        try:
            right = log.Writer.attached(store, generation=generation, opened=opened)
            record = right.commit_forward(manifest)
            if record is None:
                logger.warning("version %d is late: a later one is committed", manifest.version)
                return None
            return f"{store.url}/{record}"
        except GenerationOver:
            newer = read_opening(description.parent)
            if newer is None or newer["url"] != staged["url"] or newer["opened"] <= opened:
                raise
            generation, opened = newer["generation"], newer["opened"]


def write_opening(directory: Path, url: str, generation: int, opened: int) -> None:
    """Note by which record the worker that stages here has the right to commit."""
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / f"{OPENED}.tmp"
    temporary.write_text(json.dumps({"url": url, "generation": generation, "opened": opened}))
    temporary.rename(directory / OPENED)


def read_opening(directory: Path) -> JSON:
    """What `write_opening` noted, or None."""
    try:
        return json.loads((directory / OPENED).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _keep(store: Store, staged: JSON) -> None:
    try:
        clean(store, Keep(**staged["commit"]["keep"]), now=time.time())
    except OSError as error:
        logger.warning("old checkpoints in %s can't be removed: %s", store.url, error)
