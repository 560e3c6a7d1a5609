"""One rank's care for its state: taken back when a generation begins, copied and saved on the way.

A copy to the node's shared memory goes on while the next step computes: `land` waits for it, and
has to be called before the state changes.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from trainer.checkpoint.checkpointer import Checkpointer
from trainer.checkpoint.keep import Keep
from trainer.checkpoint.stager import Staged
from trainer.checkpoint.staging import own_directory
from trainer.errors import CheckpointError
from trainer.job import Job
from trainer.worker.mirrors import find_mirrors
from trainer.worker.replicas.check import ReplicaCheck
from trainer.worker.replicas.held import Difference
from trainer.worker.restore import Held, Restored, restore
from trainer.worker.seat import Seat
from trainer.worker.state import State, waiting_gradients

log = logging.getLogger(__name__)

WRAPPED = (
    "is the model wrapped? Wrap it before run.state (DistributedDataParallel, fully_shard), or "
    "average its gradients before optimizer.step(); what each rank has a part of, give as a DTensor"
)
SAME_MODEL = (
    "every rank has to build and compute the same; does the model, or model.factory, depend on the "
    "rank, the clock or random numbers of its own, or have pipeline stages one name for several "
    "buffers?"
)
"""How to mend it where ranks differ: in a loop of the user's, and in ours."""


LOOK_SECONDS = 0.1
"""How often a rank that waits for its last save looks whether the generation still stands."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Whether there are any, and of which parameters those in memory may have gradients that wait
    for a later turn's update."""

    any: bool
    gradients: Collection[str]


class Custody:
    """The state of one rank in one generation; a context at whose end no copy is on its way."""

    def __init__(
        self,
        seat: Seat,
        job: Job,
        identity: Mapping[str, Any] | None,
        *,
        told: set[str] | None = None,
    ) -> None:
        """`told`: see `check_of`."""
        self._seat = seat
        self._check = check_of(seat, job, told)
        self._compared = -1
        """The version that was last found to be the same on all ranks."""
        self._stepped = False
        """Whether a step of this generation is over."""
        self._job = job
        self._staging = staging = seat.staging
        self._staged: Staged | None = None
        self._writes = False
        """Whether what is on its way to shared memory goes on to storage."""
        self.waited = 0.0
        """Seconds that `land` waited last."""
        self._saved = -1
        self._awaited: int | None = None
        """The version that was staged last to be saved, of which nothing is heard yet."""
        self._unsaved = ""
        """Why the last that was to be saved could not even be staged; empty where it was."""
        self._checkpointer = Checkpointer(
            job.checkpoint.directory or f"{seat.order.run_directory}/checkpoints",
            identity=identity,
            rank=seat.rank,
            world_size=seat.size,
            generation=seat.generation,
            group=seat.group,
            stands=seat.check,
            execution=seat.order.message.get("execution", ""),
            mesh=seat.place.dims,
            keep=Keep(keep=job.checkpoint.keep, keep_every=job.checkpoint.keep_every or 0),
            staging=None if staging is None else staging / own_directory(seat.order.local_rank),
            storage_options=job.checkpoint.storage_options,
            own_only=not job.checkpoint.resume,
            read_only=not seat.saves,
            nodes=seat.place.nodes,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Whatever ended the generation: what is being copied must not change before it is."""
        try:
            self.land()
        except RuntimeError as fault:
            log.warning("the state could not be staged: %s", fault)
        self._checkpointer.close()

    def sources(self, past: State | None) -> Sources:
        """What a state could be filled from; collective."""
        stored = self._seat.rank == 0 and self._checkpointer.newest_version() is not None
        values = [held.values for held in self._mirrors()]
        values += [] if past is None else [past.values()]
        names = sorted({name for each in values for name in waiting_gradients(each)})
        rows = self._seat.exchange.all_gather([stored or bool(values), names])
        return Sources(
            any=any(row[0] for row in rows), gradients={name for row in rows for name in row[1]}
        )

    def restore(self, state: State, past: State | None) -> str | None:
        """Fill `state` from the nearest whole source; collective.

        `past` is what this process brings from the generation before. Returns the source (peers,
        mirror, storage), or None where there is none.
        """
        restored = self._restore(
            state, lambda: [*self._mirrors(), *([] if past is None else [_held(past)])]
        )
        if restored is None:
            return None
        self._saved = restored.version if restored.source == "storage" else -1
        self._seat.check()
        self._compare_taken(state, restored)
        return restored.source

    def go_back(self, state: State) -> str | None:
        """Fill `state` from the newest whole mirror of an earlier version, else from storage.

        Collective. Returns the source, or None, with `state` as it was, where there is neither.
        """
        self.land()
        restored = self._restore(
            state, lambda: [held for held in self._mirrors() if held.version < state.version]
        )
        if restored is None:
            return None
        self._compare_taken(state, restored)
        return restored.source

    def after_step(self, state: State) -> None:
        """A step is over: if it is the generation's first, all ranks compare what it made.

        Collective. Raises ReplicasDiffer; a loop that wraps nothing is found out here.
        """
        if not self._stepped:
            self._stepped = True
            self.compare(state)

    def compare(self, state: State) -> None:
        """Return once all ranks are known to hold alike what they have to; collective.

        Raises ReplicasDiffer.
        """
        if self._compared != state.version:
            self._check.compare(state)
            self._compared = state.version

    def _compare_taken(self, state: State, restored: Restored) -> None:
        """Survivors have kept their own, and mirrors are of one rank each; what storage has is
        read by all from the same files, and checked against their sums."""
        self._compared = -1
        if restored.source != "storage":
            self.compare(state)

    def keep(self, state: State, *, write: bool, leaves: bool = False, ends: bool = False) -> None:
        """Copy the state to where it outlives this process; with `write`, save it from there.

        Collective. `leaves`: this may be the last of it on this node, so that it is mirrored even
        where the job asks for no mirrors. `ends`: it is the last of the run. A full disk, or full
        shared memory, costs this save and not the run.
        """
        self.land()
        # Of what several ranks hold, only one's goes to storage, and any one's to a new rank.
        self.compare(state)
        if write:
            self._saved, self._unsaved = state.version, ""
        try:
            self._keep(state, write=write, leaves=leaves, ends=ends)
        except CheckpointError as error:
            if write:
                # Of all ranks, as each tells its own agent, which may be all that is left later.
                self._tell_unsaved(state.version, error)
            if self._seat.rank == 0:
                self._tell_failure(state.version, error, write=write)

    def _keep(self, state: State, *, write: bool, leaves: bool, ends: bool) -> None:
        job = self._job
        if self._staging is None:
            if write:
                with self._seat.waiting():
                    self._checkpointer.save(state.version, state.tensors(), state.values())
                self._seat.say("saved", version=state.version)
            return
        with self._seat.waiting() if write else contextlib.nullcontext():
            self._staged = self._checkpointer.stage(
                state.version,
                state.tensors(),
                state.values(),
                write=write,
                mirror=leaves or job.elastic.mirror_every > 0,
                # Nothing comes after what is saved last, so that it is not left out.
                when_busy="wait" if leaves or ends else job.checkpoint.when_busy,
            )
            self._writes = write and self._staged is not None
            if self._writes:
                self._awaited = state.version

    def land(self) -> None:
        """Wait for the copy that is on its way, and hand it to the agent."""
        staged, self._staged = self._staged, None
        self.waited = 0.0
        if staged is None:
            return
        began = time.perf_counter()
        try:
            self._seat.say("staged", version=staged.version, path=str(staged.wait()))
        except (OSError, CheckpointError) as error:
            if self._writes:
                self._checkpointer.forsake(staged, error)
                self._tell_unsaved(staged.version, error)
            self._tell_failure(staged.version, error, write=self._writes)
        finally:
            self.waited = time.perf_counter() - began

    def _tell_unsaved(self, version: int, error: Exception) -> None:
        self._unsaved = str(error) or type(error).__name__
        url, options = self._checkpointer.place
        self._seat.say("unsaved", version=version, error=str(error), url=url, options=options)

    def _tell_failure(self, version: int, error: Exception, *, write: bool) -> None:
        log.error("version %d is not %s: %s", version, "saved" if write else "mirrored", error)
        self._seat.say(
            "event",
            event="checkpoint.failed" if write else "mirror.failed",
            version=version,
            rank=self._seat.rank,
            error=str(error),
        )

    def mirror_again(self, state: State, source: str | None) -> None:
        """After a recovery from memory: the lost ranks' copies are to be had in one place only."""
        if source in ("peers", "mirror") and self._job.elastic.mirror_every:
            self.keep(state, write=False)

    def finish(self, state: State) -> bool:
        """Save the last version where the job wants that, and wait until all is written.

        Collective: nobody goes on before the others, or they would seem to hang. Returns whether
        what was to be saved last is, on all ranks, and committed.
        """
        with self._seat.waiting():
            self.land()
            # The hash of the weights is of one rank's.
            self.compare(state)
            if self._job.checkpoint.at_end and self._saved < state.version:
                self.keep(state, write=True, ends=True)
                self.land()
            self.drain()
            # Who commits waits for all parts: it has to be told first of those that never come.
            parts = self._seat.exchange.all_gather("" if self._commits else self._save_error())
            if self._commits:
                self._tell_lost_parts(parts)
            return not any(self._seat.exchange.all_gather(bool(self._save_error())))

    @property
    def _commits(self) -> bool:
        return self._seat.rank == 0

    def _save_error(self) -> str:
        """Why this rank's part of the last save is not in storage, or at rank 0 the whole is not
        committed, once that is known; empty where it is."""
        while self._awaited is not None and not self._unsaved:
            error = self._seat.inbox.saves.wait(self._awaited, LOOK_SECONDS)
            if error is not None:
                return error
            self._seat.check()
        return self._unsaved

    def _tell_lost_parts(self, errors: Sequence[str]) -> None:
        if self._awaited is None:
            return
        for rank, error in enumerate(errors):
            if error:
                self._seat.say("part_lost", version=self._awaited, rank=rank, error=error)

    def drain(self) -> None:
        """Wait until what this rank has staged is written."""
        with self._seat.waiting():
            self._checkpointer.drain()

    def _restore(self, state: State, find: Callable[[], list[Held]]) -> Restored | None:
        return restore(
            state,
            find,
            self._checkpointer,
            node=self._seat.order.node,
            exchange=self._seat.exchange,
            device=self._seat.device,
        )

    def _mirrors(self) -> list[Held]:
        """This rank's share of what lies in the node's shared memory."""
        if self._staging is None:
            return []
        order = self._seat.order
        return find_mirrors(self._staging, turn=order.local_rank, turns=order.local_world_size)


def check_of(seat: Seat, job: Job, told: set[str] | None = None) -> ReplicaCheck:
    """The comparison of all ranks of a generation.

    `told` remembers what this process has said to differ, so that it is said once.
    """
    said = set() if told is None else told

    def report(found: Difference) -> None:
        if said.issuperset(found.names):
            return
        said.update(found.names)
        log.warning(
            "%s (%d in all) may differ between ranks, and does between %d and %d: rank 0's is kept",
            ", ".join(found.names),
            found.count,
            found.rank,
            found.other,
        )
        seat.say(
            "event",
            event="replicas.differ",
            names=list(found.names),
            total=found.count,
            ranks=[found.rank, found.other],
        )

    remedy = SAME_MODEL if job.trains else WRAPPED
    return ReplicaCheck(seat.exchange, remedy=remedy, report=report)


def _held(past: State) -> Held:
    return Held(
        key="past",
        kind="worker",
        version=past.version,
        made_in=past.made_in,
        tensors=past.local,
        values=past.values(),
    )
