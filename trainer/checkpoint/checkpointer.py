"""Save and load inside a job: every rank writes its part, one rank commits, any mesh reads."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist

from trainer.checkpoint import log
from trainer.checkpoint.attempt import adopt, discard, write_failure
from trainer.checkpoint.checksum import block_sums
from trainer.checkpoint.datafile import BoxEntry, lay_out, metadata
from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.keep import Keep, clean, reading
from trainer.checkpoint.loading import load_manifest
from trainer.checkpoint.manifest import Manifest, Summary, decode
from trainer.checkpoint.mismatch import NONE_BUT_RANKS_OWN, Allowance
from trainer.checkpoint.outcome import failure, raise_failure
from trainer.checkpoint.pending import write_opening
from trainer.checkpoint.pinning import Pins
from trainer.checkpoint.planning import Agreement, Planner
from trainer.checkpoint.receipt import blank, merge, receipt, rows
from trainer.checkpoint.results import Commit, Loaded
from trainer.checkpoint.room import Coming, with_room
from trainer.checkpoint.stager import Staged, rest_of, room_for, stage
from trainer.checkpoint.staging import Slot, Slots
from trainer.checkpoint.store import open_store, this_host
from trainer.checkpoint.tensors import Bytes, LocalTensor, looked_at
from trainer.checkpoint.unsaved import mending
from trainer.errors import CheckpointDamaged, CheckpointError, GenerationOver

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

JSON = Any
logger = logging.getLogger(__name__)
WAIT_SECONDS = 1800.0
Tensors = Mapping[str, "torch.Tensor | DTensor"]
Fitted = Callable[[Collection[str], Mapping[str, JSON]], Tensors]


class Checkpointer:
    """A job's checkpoint directory, as one rank of one generation uses it.

    `save`, `stage` and `load` are collective over the group: all ranks call them, in the same
    order. A plain tensor counts as whole and alike on every rank that has it; a DTensor is as
    placed. Each rank may hold other names. A name's values are restored wherever they lie in a
    later mesh.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        identity: Mapping[str, JSON] | None,
        rank: int,
        world_size: int,
        generation: int,
        group: dist.ProcessGroup | None = None,
        stands: Callable[[], None] = lambda: None,
        execution: str = "",
        mesh: Mapping[str, int] | None = None,
        keep: Keep | None = None,
        staging: str | os.PathLike[str] | None = None,
        storage_options: Mapping[str, JSON] | None = None,
        read_only: bool = False,
        own_only: bool = False,
        host: str | None = None,
        nodes: Sequence[str] = (),
    ) -> None:
        """Rank 0 opens the directory here, which ends every earlier generation's right to commit.

        `identity` says what model the state belongs to; a checkpoint of another is refused (None:
        any is taken).
        `stands` raises when the generation is over, which ends all waiting and exchanging.
        `execution` names the life of the job in which generations are counted: within one, a
        lower generation can't open the directory after a higher one. `mesh` is only recorded.
        `staging` is this worker's own directory in shared memory, without which `stage` is not
        possible. A directory that can't be opened now, as its disk is full, is tried again by the
        next save. `storage_options` are fsspec's. With `read_only` the directory is not opened,
        and only `load` works. With `own_only`, checkpoints that another execution has committed
        are as if they were not there. Ranks of one `host` (by default, one running kernel) share
        its page cache; across hosts, replicas read a part each and exchange it. `nodes` names the
        node of each rank, so that the loss of one ends the saves that wait for its part. Nothing is
        raised here: what goes wrong is told to all ranks by the next save or load.
        """
        self._options = dict(storage_options or {})
        self._store = open_store(directory, self._options)
        self._identity = None if identity is None else dict(identity)
        self._generation = generation
        self._execution = execution
        self._mesh = dict(mesh or {})
        self._keep = keep or Keep()
        self._own_only = own_only
        self._host = host or this_host()
        self._nodes = tuple(nodes)
        self._stands = stands
        self._exchange = Exchange(rank, world_size, group, stands=stands)
        self._planner = Planner(self._exchange, generation)
        self._rank = rank
        self._world_size = world_size
        self._slots = None if staging is None else Slots(staging)
        self._pins = Pins()
        self._log: log.Writer | None = None
        self._fault: JSON = None
        self._staging = None if staging is None else Path(staging)
        self._opens = rank == 0 and not read_only
        self._open()

    def close(self) -> None:
        """Give back what `stage` has taken of this process; nothing is being copied any more."""
        self._pins.release()

    def _open(self) -> None:
        """Take the right to commit, where this rank is the one to have it and has not got it."""
        if not self._opens or self._log is not None:
            return
        try:
            self._open_log()
            self._fault = None
        except (OSError, CheckpointError, GenerationOver) as error:
            self._fault = failure(error)

    def _open_log(self) -> None:
        opened = log.Writer(
            self._store,
            generation=self._generation,
            execution=self._execution,
            time=time.time(),
        )
        if self._staging is not None:
            write_opening(self._staging, self._store.url, self._generation, opened.opened)
        for record in adopt(self._store, opened, execution=self._execution):
            logger.info("%s was whole but not committed; it is now", record)
        self._log = opened

    def save(
        self,
        version: int,
        tensors: Mapping[str, torch.Tensor | DTensor],
        values: Mapping[str, JSON],
        progress: Callable[[int], None] = lambda count: None,
    ) -> Commit:
        """Write a checkpoint and commit it; it is durable, and visible to all, when this returns.

        `version` counts the optimizer steps in the state; `progress` hears of each run of bytes
        that this rank has written. Raises, on every rank: GenerationOver
        when a later generation has opened the directory; CheckpointError when it can't be
        written, with the last checkpoint left as it was.
        """
        begun = time.monotonic()
        self._open()
        local, fault = looked_at(tensors)
        agreed = self._planner.agree(version, local, fault=self._fault or fault)
        written: JSON
        try:
            write = partial(self._write, version, agreed, local, progress)
            written = with_room(self._store, self._coming(version, agreed), write, now=time.time())
        except (OSError, RuntimeError) as error:
            mend = mending(error) if isinstance(error, OSError) else ""
            written = {"error": f"rank {self._rank} can't write: {error}{mend}"}
        gathered = self._exchange.gather(written)
        outcome = self._commit(version, agreed, gathered, values) if gathered is not None else None
        outcome = self._exchange.broadcast(outcome)
        raise_failure(outcome)
        return Commit(outcome["path"], outcome["bytes"], time.monotonic() - begun)

    def stage(
        self,
        version: int,
        tensors: Mapping[str, torch.Tensor | DTensor],
        values: Mapping[str, JSON],
        *,
        write: bool = True,
        mirror: bool = False,
        when_busy: Literal["wait", "skip"] = "wait",
        overlap: bool = True,
    ) -> Staged | None:
        """Copy the state into shared memory, from where a `BackgroundWriter` saves it.

        `write` asks for a checkpoint; `mirror` copies also what other ranks write, so that the
        slot holds all of this rank's state. With `overlap` the copy goes on while this returns:
        call the result's `wait` before the tensors change, and hand what it returns to the writer
        (it is needed for `write` alone). When an earlier save still takes up the slots, waits, or
        skips this one on every rank and returns None. Raises as `save` does.
        """
        if self._slots is None:
            raise CheckpointError("this checkpointer was given no staging directory")
        self._open()
        local, own_fault = looked_at(tensors)
        if when_busy == "wait":
            self._wait_for_room(version, self._slots)
        slot = self._slots.free()
        last, room, fault = self._planner.last, None, self._fault or own_fault
        if slot is not None and last is not None and fault is None:
            room, fault = _room(slot, local, last.entries, mirror)
        agreed = self._planner.agree(version, local, fault=fault, busy=slot is None)
        if agreed.busy or slot is None:
            if self._rank == 0:
                logger.warning("version %d is not saved: an earlier save is on its way", version)
            return None
        if room is None or not agreed.cached:
            room, fault = _room(slot, local, agreed.share.entries, mirror)
            for row in self._exchange.all_gather(fault):
                raise_failure(row)
        assert room is not None
        if any(part.local.is_cuda for item in local.values() for part in item.parts):
            self._pins.pin(slot.path, room.memory)
        return stage(
            slot,
            room.memory,
            local,
            agreed.share.entries,
            room.rest,
            metadata(version, self._generation, agreed.attempt),
            self._description(version, agreed, values) | {"mirror": mirror},
            pending=write,
            overlap=overlap,
        )

    def _wait_for_room(self, version: int, slots: Slots) -> None:
        if slots.all_free():
            return
        logger.warning("version %d waits: earlier saves are on their way", version)
        if not slots.wait(self._unless_over(slots.all_free), WAIT_SECONDS):
            logger.error("earlier saves have not been written in %.0f s", WAIT_SECONDS)

    def forsake(self, staged: Staged, error: Exception) -> None:
        """This rank's part of a save could not be staged: tell who waits for it to be written."""
        told = f"rank {self._rank} can't stage: {error}"
        try:
            write_failure(self._store, staged.attempt, self._rank, told)
        except OSError as fault:
            logger.warning("nobody can be told that version %d fails: %s", staged.version, fault)

    @property
    def place(self) -> tuple[str, JSON]:
        """The directory's URL, and fsspec's options for it."""
        return self._store.url, self._options

    def drain(self, timeout: float = WAIT_SECONDS) -> bool:
        """Wait until what this rank has staged is written; False when the time is over first."""
        slots = self._slots
        return slots is None or slots.wait(self._unless_over(slots.idle), timeout)

    def _unless_over(self, condition: Callable[[], bool]) -> Callable[[], bool]:
        def look() -> bool:
            self._stands()
            return condition()

        return look

    def newest_version(self) -> int | None:
        """The version of the newest committed checkpoint, by its record alone. Not collective."""
        found = self._summaries()
        return next((s.version for _, s in found if isinstance(s, Summary)), None)

    def _summaries(self) -> Iterator[tuple[int, Summary | CheckpointDamaged]]:
        for number, summary in log.summaries(self._store):
            execution = getattr(summary, "execution", self._execution)
            if not self._own_only or execution == self._execution:
                yield number, summary

    def load(
        self,
        tensors: Tensors | Fitted,
        *,
        version: int | None = None,
        allowance: Allowance = NONE_BUT_RANKS_OWN,
    ) -> Loaded | None:
        """Restore the newest whole checkpoint straight into the tensors; None when there is none.

        `tensors` may be a function that gets the names and the values that a checkpoint has, and
        returns what is to be filled with it, by its names.
        With `version`, only checkpoints of that version are looked at. Every block is verified. A
        damaged checkpoint is named in the log and the one before it is taken. Raises, on every
        rank: CheckpointMismatch for another model's; CheckpointDamaged when there are checkpoints
        but not one is whole.
        """
        with contextlib.closing(self._candidates(version)) as candidates:
            return self._load(candidates, tensors, allowance)

    def _load(
        self,
        candidates: Iterator[JSON],
        tensors: Tensors | Fitted,
        allowance: Allowance,
    ) -> Loaded | None:
        damaged: list[str] = []
        while True:
            found = self._exchange.broadcast(next(candidates) if self._rank == 0 else None)
            raise_failure(found)
            if found["number"] is None:
                if damaged:
                    raise CheckpointDamaged(f"no whole checkpoint is left: {'; '.join(damaged)}")
                return None
            path = f"{self._store.url}/{log.record_path(found['number'])}"
            fault = found.get("fault")
            if fault is None:
                manifest = decode(found["document"].encode(), path)
                if callable(tensors):
                    local, odd = looked_at(tensors(manifest.tensors.keys(), manifest.values))
                else:
                    local, odd = looked_at(tensors)
                for row in self._exchange.all_gather(odd):
                    raise_failure(row)
                filled = load_manifest(
                    self._exchange,
                    self._store,
                    manifest,
                    local,
                    self._identity,
                    self._host,
                    allowance,
                )
                fault = filled.damage
                if fault is None:
                    return Loaded(
                        manifest.version,
                        manifest.values,
                        path,
                        tuple(damaged),
                        filled.bytes,
                        filled.missing,
                        filled.unused,
                    )
            if self._rank == 0:
                logger.warning("checkpoint %s is passed over: %s", path, fault)
            damaged.append(fault)

    def _candidates(self, version: int | None) -> Generator[JSON, None, None]:
        """Committed checkpoints, newest first, each checked; after the last, number None.

        A directory that can't be opened for writing can still be read, but where nothing is in it,
        that it can't be opened is the answer. A generation that is over reads nothing.
        """
        fault = self._fault
        if fault is not None and fault["error"] == "GenerationOver":
            yield fault
        try:
            for number, summary in self._summaries():
                if version is not None and getattr(summary, "version", version) != version:
                    continue
                path = log.record_path(number)
                try:
                    document = self._store.read(path)
                    manifest = decode(document, path)
                except CheckpointDamaged as error:
                    yield {"number": number, "fault": str(error)}
                except FileNotFoundError:
                    continue
                else:
                    with reading(self._store, manifest.attempt, now=time.time()):
                        yield {"number": number, "document": document.decode()}
        except OSError as error:
            yield failure(error)
        yield {"number": None} if fault is None else fault

    def _write(
        self,
        version: int,
        agreed: Agreement,
        local: Mapping[str, LocalTensor],
        progress: Callable[[int], None],
    ) -> JSON:
        entries, block = agreed.share.entries, agreed.share.block
        if not entries:
            return None
        layout = lay_out(entries, metadata(version, self._generation, agreed.attempt))
        path = self._data_path(agreed)
        sums: list[list[int]] = []

        def data() -> Iterator[memoryview]:
            yield memoryview(layout.header)
            for entry in entries:
                item: Bytes = local[entry.name].bytes_of(entry.box)
                sums.append(block_sums(item, block, version))
                yield item.data
                progress(len(item))

        self._store.write(path, data())
        return receipt(path, layout.bytes, rows(entries, layout.starts), sums)

    def _data_path(self, agreed: Agreement) -> str:
        return f"{log.attempt_path(agreed.attempt)}/{self._rank:05d}.safetensors"

    def _commit(
        self, version: int, agreed: Agreement, gathered: Sequence[JSON], values: Mapping[str, JSON]
    ) -> JSON:
        errors = [item["error"] for item in gathered if item is not None and "error" in item]
        assert self._log is not None
        try:
            if errors:
                raise CheckpointError(f"version {version} is not saved: {'; '.join(errors[:3])}")
            manifest = merge(self._blank(version, agreed, values), gathered)
            commit = partial(self._log.commit, manifest)
            coming = self._coming(version, agreed)
            record = with_room(self._store, coming, commit, now=time.time())
            path = f"{self._store.url}/{record}"
        except (CheckpointError, GenerationOver, OSError) as error:
            discard(self._store, agreed.attempt)
            return failure(error)
        try:
            clean(self._store, self._keep, now=time.time())
        except OSError as error:
            logger.warning("old checkpoints in %s can't be removed: %s", self._store.url, error)
        return {"path": path, "bytes": manifest.bytes}

    def _coming(self, version: int, agreed: Agreement) -> Coming:
        return Coming(
            version=version,
            generation=self._generation,
            execution=self._execution,
            attempt=agreed.attempt,
            bytes=agreed.share.total,
            keep=self._keep,
        )

    def _blank(self, version: int, agreed: Agreement, values: Mapping[str, JSON]) -> Manifest:
        return blank(
            agreed.share.kinds,
            version=version,
            generation=self._generation,
            execution=self._execution,
            attempt=agreed.attempt,
            identity=self._identity or {},
            values=values,
            mesh=self._mesh,
            world_size=self._world_size,
            block=agreed.share.block,
        )

    def _description(
        self, version: int, agreed: Agreement, values: Mapping[str, JSON]
    ) -> dict[str, JSON]:
        commit = None
        if self._log is not None:
            commit = {
                "opened": self._log.opened,
                "writers": list(agreed.share.writers),
                "kinds": dict(agreed.share.kinds),
                "mesh": self._mesh,
                "world_size": self._world_size,
                "nodes": self._nodes_of(agreed.share.writers),
            }
        return {
            "url": self._store.url,
            "options": self._options,
            "attempt": agreed.attempt,
            "version": version,
            "generation": self._generation,
            "execution": self._execution,
            "rank": self._rank,
            "time": time.time(),
            "block": agreed.share.block,
            "path": self._data_path(agreed) if agreed.share.entries else None,
            "identity": self._identity or {},
            "values": dict(values),
            "keep": asdict(self._keep),
            "total": agreed.share.total,
            "commit": commit,
        }

    def _nodes_of(self, writers: Sequence[int]) -> dict[str, list[int]]:
        """Whose parts each node owes, where it is known which rank is on which."""
        found: dict[str, list[int]] = {}
        for rank in writers if self._nodes else ():
            found.setdefault(self._nodes[rank], []).append(rank)
        return found


@dataclass(frozen=True, slots=True)
class _Room:
    memory: Bytes
    rest: Sequence[BoxEntry]


def _room(
    slot: Slot, local: Mapping[str, LocalTensor], written: Sequence[BoxEntry], mirror: bool
) -> tuple[_Room | None, JSON]:
    """The slot's memory for what is written and, for mirrors, the rest; or why there is none."""
    rest = rest_of(local, written) if mirror else []
    try:
        return _Room(slot.memory(room_for(written, rest)), rest), None
    except CheckpointError as error:
        return None, failure(error)
