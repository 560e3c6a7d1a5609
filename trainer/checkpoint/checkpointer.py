"""Save and load inside a job: every rank writes its part, one rank commits, any mesh reads."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from trainer.checkpoint import log, transfer
from trainer.checkpoint.datafile import BoxEntry, lay_out, metadata
from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.geometry import Box
from trainer.checkpoint.loading import load_manifest
from trainer.checkpoint.manifest import decode
from trainer.checkpoint.outcome import failure, raise_failure
from trainer.checkpoint.plan import Layout, assign, block_bytes
from trainer.checkpoint.receipt import blank, merge, receipt
from trainer.checkpoint.store import open_store
from trainer.checkpoint.tensors import Bytes, LocalTensor, local_tensors
from trainer.errors import CheckpointDamaged, CheckpointError, GenerationOver

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

JSON = Any
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Commit:
    """A committed checkpoint: its record's path, bytes of all its data files, seconds it took."""

    path: str
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded. `damaged` says which newer checkpoints were passed over, and why."""

    version: int
    values: Mapping[str, JSON]
    path: str
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Share:
    """What this rank writes of one attempt; `kinds` of all tensors is known at rank 0 alone."""

    attempt: str
    block: int
    entries: Sequence[BoxEntry]
    kinds: Mapping[str, tuple[str, tuple[int, ...]]]


class Checkpointer:
    """A job's checkpoint directory, as one rank of one generation uses it.

    `save` and `load` are collective over the group: all ranks call them, in the same order. A
    plain tensor counts as whole and alike on every rank that has it; a DTensor is as placed. Each
    rank may hold other names. A name's values are restored wherever they lie in a later mesh.

    `identity` says what model the state belongs to; a checkpoint of another is refused.
    `execution` names the life of the job in which generations are counted: within one, a lower
    generation can't open the directory after a higher one. `mesh` is only recorded.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        identity: Mapping[str, JSON],
        rank: int,
        world_size: int,
        generation: int,
        group: dist.ProcessGroup | None = None,
        execution: str = "",
        mesh: Mapping[str, int] | None = None,
    ) -> None:
        """Rank 0 opens the directory here, which ends every earlier generation's right to commit.

        Nothing is raised here: what goes wrong is told to all ranks by the next save or load.
        """
        self._store = open_store(directory)
        self._identity = dict(identity)
        self._generation = generation
        self._execution = execution
        self._mesh = dict(mesh or {})
        self._exchange = Exchange(rank, world_size, group)
        self._rank = rank
        self._world_size = world_size
        self._log: log.Writer | None = None
        self._fault: JSON = None
        if rank == 0:
            try:
                self._log = log.Writer(
                    self._store, generation=generation, execution=execution, time=time.time()
                )
            except (OSError, GenerationOver) as error:
                self._fault = failure(error)

    def save(
        self,
        version: int,
        tensors: Mapping[str, torch.Tensor | DTensor],
        values: Mapping[str, JSON],
    ) -> Commit:
        """Write a checkpoint and commit it; it is durable, and visible to all, when this returns.

        `version` counts the optimizer steps in the state. Raises, on every rank: GenerationOver
        when a later generation has opened the directory; CheckpointError when it can't be
        written, with the last checkpoint left as it was.
        """
        begun = time.monotonic()
        local = local_tensors(tensors)
        share = self._plan(version, local)
        written: JSON
        try:
            written = self._write(version, share, local)
        except OSError as error:
            written = {"error": f"rank {self._rank} can't write: {error}"}
        gathered = self._exchange.gather(written)
        outcome = self._commit(version, share, gathered, values) if gathered is not None else None
        outcome = self._exchange.broadcast(outcome)
        raise_failure(outcome)
        return Commit(outcome["path"], outcome["bytes"], time.monotonic() - begun)

    def load(self, tensors: Mapping[str, torch.Tensor | DTensor]) -> Loaded | None:
        """Restore the newest whole checkpoint straight into the tensors; None when there is none.

        Every block is verified. A damaged checkpoint is named in the log and the one before it is
        taken. Raises, on every rank: CheckpointMismatch for another model's; CheckpointDamaged
        when there are checkpoints but not one is whole.
        """
        local = local_tensors(tensors)
        damaged: list[str] = []
        candidates = self._candidates()
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
                fault = load_manifest(self._exchange, self._store, manifest, local, self._identity)
                if fault is None:
                    return Loaded(manifest.version, manifest.values, path, tuple(damaged))
            if self._rank == 0:
                logger.warning("checkpoint %s is passed over: %s", path, fault)
            damaged.append(fault)

    def _candidates(self) -> Iterator[JSON]:
        """Committed checkpoints, newest first, each checked; after the last, number None."""
        if self._fault is not None:
            yield self._fault
        try:
            for number, _ in log.summaries(self._store):
                path = log.record_path(number)
                try:
                    document = self._store.read(path)
                    decode(document, path)
                    yield {"number": number, "document": document.decode()}
                except CheckpointDamaged as error:
                    yield {"number": number, "fault": str(error)}
                except FileNotFoundError:
                    continue
        except OSError as error:
            yield failure(error)
        yield {"number": None}

    def _plan(self, version: int, local: Mapping[str, LocalTensor]) -> _Share:
        layout = {
            name: [item.dtype, item.shape, [part.box for part in item.parts]]
            for name, item in local.items()
        }
        gathered = self._exchange.gather(layout)
        kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
        shares: list[JSON] | None = None
        if gathered is not None:
            for rows in gathered:
                kinds |= {name: (dtype, tuple(shape)) for name, (dtype, shape, _) in rows.items()}
            try:
                raise_failure(self._fault)
                shares = self._shares(version, [_layout(rows) for rows in gathered])
            except (CheckpointError, GenerationOver) as error:
                shares = [failure(error)] * self._world_size
        share = self._exchange.scatter(shares)
        raise_failure(share)
        entries = [
            BoxEntry(name, local[name].dtype, local[name].shape, Box(tuple(o), tuple(s)))
            for name, o, s in share["boxes"]
        ]
        return _Share(share["attempt"], share["block"], entries, kinds)

    def _shares(self, version: int, layouts: Sequence[Layout]) -> list[JSON]:
        plan = assign(layouts)
        block = block_bytes(sum(entry.bytes for entries in plan for entry in entries))
        attempt = f"v{version:08d}-g{self._generation:05d}-{secrets.token_hex(4)}"
        return [
            {
                "attempt": attempt,
                "block": block,
                "boxes": [[entry.name, *entry.box] for entry in entries],
            }
            for entries in plan
        ]

    def _write(self, version: int, share: _Share, local: Mapping[str, LocalTensor]) -> JSON:
        if not share.entries:
            return None
        layout = lay_out(share.entries, metadata(version, self._generation, share.attempt))
        path = f"{log.attempt_path(share.attempt)}/{self._rank:05d}.safetensors"
        sums: list[list[int]] = []

        def data() -> Iterator[Bytes]:
            for entry in share.entries:
                item = local[entry.name].bytes_of(entry.box)
                sums.append(transfer.block_sums(item, share.block, version))
                yield item

        transfer.write(self._store, path, layout, data())
        return receipt(path, share.entries, layout, sums)

    def _commit(
        self, version: int, share: _Share, gathered: Sequence[JSON], values: Mapping[str, JSON]
    ) -> JSON:
        errors = [item["error"] for item in gathered if item is not None and "error" in item]
        assert self._log is not None
        try:
            if errors:
                raise CheckpointError(f"version {version} is not saved: {'; '.join(errors[:3])}")
            manifest = merge(
                blank(
                    share.kinds,
                    version=version,
                    generation=self._generation,
                    execution=self._execution,
                    attempt=share.attempt,
                    identity=self._identity,
                    values=values,
                    mesh=self._mesh,
                    world_size=self._world_size,
                    block=share.block,
                ),
                gathered,
            )
            return {
                "path": f"{self._store.url}/{self._log.commit(manifest)}",
                "bytes": manifest.bytes,
            }
        except (CheckpointError, GenerationOver, OSError) as error:
            return failure(error)


def _layout(rows: Mapping[str, JSON]) -> Layout:
    return {
        name: (dtype, tuple(shape), tuple(Box(tuple(o), tuple(s)) for o, s in boxes))
        for name, (dtype, shape, boxes) in rows.items()
    }
