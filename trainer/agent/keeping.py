"""What an agent keeps for its workers: staged state, its way to storage, its mirror elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from rendezvous.generation import Generation
from trainer.agent.greeting import GenerationKey
from trainer.agent.mirrors import MirrorServer, send_mirror
from trainer.agent.shelf import Shelf
from trainer.agent.staging_room import needed_bytes, shortage
from trainer.checkpoint.salvage import salvage
from trainer.checkpoint.staging import Slots, own_directory, read_description
from trainer.checkpoint.unsaved import SaveLedger, Unsaved
from trainer.checkpoint.writer import BackgroundWriter, Outcome
from trainer.errors import CheckpointError
from trainer.names import NODE, named
from trainer.recovery.buddies import buddy
from trainer.supervision import ThreadPool, guarded, logged

log = logging.getLogger(__name__)

MIRROR_LABEL = "remesh.mirror"
SHARED_MEMORY = Path("/dev/shm")
NO_REASON = "no reason is known"
"""Of a save that failed without a word: an empty text would mean that it did not."""
KEYLESS = (
    "the rendezvous service gives generations no secret, as it is older than this agent, and there "
    "is no token: no mirrors are sent; bring the service up to date, or give it and the agents a "
    "token (--token-file, --rdzv-conf token_file=FILE)"
)

Report = Callable[[str, dict[str, Any]], None]
"""Called in the agent's loop with an event's name and its fields."""

Saved = Callable[[str, int, str], None]
"""Called in the agent's loop when a worker's part of a save is done with: the name of the worker's
staging directory, the version, and whether all went well."""


class Keeping:
    """One node's staging directory and what goes out of it."""

    def __init__(
        self,
        node: str,
        host: str | None,
        *,
        token: str = "",
        storage_options: Mapping[str, Any] | None = None,
        topology: str | None,
        report: Report,
        saved: Saved = lambda *_: None,
        mirrors: bool = False,
    ) -> None:
        """Call it in the agent's loop. Raises OSError when there is no room or port for it.

        `host`: where other nodes reach this one; None where there are none. `token`: by what they
        know each other under a service that gives generations no secret. `mirrors`: another node's
        state will be kept here too.
        """
        self._node = node
        self._mirrors = mirrors
        self._room_looked_for = False
        self._token = token
        self._keyless_told = False
        """Whether it was said that there is nothing by which nodes could know each other."""
        self._topology = topology
        self._report = report
        self._tell_saved = saved
        self._loop = asyncio.get_running_loop()
        root = SHARED_MEMORY if SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())
        self._shelf = Shelf(root, named(NODE, node))
        self.directory = self._shelf.path
        self._server = (
            None if host is None else MirrorServer(self.directory, host, storage_options or {})
        )
        """None where no other node is there to send anything."""
        self._writer = BackgroundWriter(self._written)
        self._ledger = SaveLedger()
        self._saving: dict[tuple[Path, int], Future[Outcome]] = {}
        """By slot, and when it was staged."""
        self._senders = ThreadPool(4, name="mirror")
        self._sending: set[asyncio.Future[None]] = set()
        self._newest: dict[Path, Path] = {}
        self._going: frozenset[str] = frozenset()
        self._asked_of = 0
        self._generation = 0
        """The newest that has begun."""
        self._given_up = threading.Event()

    @property
    def labels(self) -> dict[str, str]:
        """How other nodes find this one's mirrors."""
        return {} if self._server is None else {MIRROR_LABEL: self._server.endpoint}

    def staged(self, path: Path, generation: Generation) -> None:
        """A worker has staged its state: save it if that was asked for, and mirror it."""
        if not self._room_looked_for:
            size = path.with_suffix(".stage").stat().st_size
            self.look_for_room(size, generation)
        if path.with_suffix(".pending").exists():
            self._save(path)
        self._newest[path.parent] = path
        self._mirror(path, generation)

    def look_for_room(self, kept: int, generation: Generation) -> None:
        """Say so where what `kept` bytes of state a rank take does not fit into shared memory."""
        self._room_looked_for = True
        mine = next((m for m in generation.members if m.node == self._node), None)
        if mine is None:
            return
        mirrors = self._mirrors and len(generation.members) > 1
        needed = needed_bytes(kept, mine.slots, mirrors=mirrors)
        try:
            short = shortage(self.directory, needed)
        except OSError as error:
            log.warning("nobody knows how much room %s has: %s", self.directory, error)
            return
        if short is not None:
            fields = {"needed": short.needed, "free": short.free, "reason": str(short)}
            self._report("staging.short", fields)

    def _save(self, path: Path) -> None:
        # A slot is staged anew while what it held before still waits for the other ranks' parts.
        staged = path, path.stat().st_mtime_ns
        if staged in self._saving:
            return
        self._saving[staged] = saving = self._writer.submit(path)
        saving.add_done_callback(lambda _: self._in_loop(self._done, staged))

    def _done(self, staged: tuple[Path, int]) -> None:
        saving = self._saving.pop(staged)
        if not saving.cancelled() and saving.exception() is None:
            outcome = saving.result()
            name = staged[0].parent.name
            error = "" if outcome.error is None else outcome.error or NO_REASON
            self._tell_saved(name, outcome.version, error)

    async def settled(self) -> Unsaved | None:
        """Wait until nothing is being saved any more; the newest save, where that has failed."""
        while self._saving:
            await asyncio.wait([asyncio.wrap_future(saving) for saving in self._saving.values()])
            await asyncio.sleep(0)  # what the saves came to is noted, and they are taken off
        return self._ledger.unsaved

    @property
    def unsaved(self) -> Unsaved | None:
        """The newest save, where that has failed, as far as is known."""
        return self._ledger.unsaved

    def part_lost(self, told: Mapping[str, Any]) -> None:
        """A worker knows that another rank's part of a save will never be there, and why."""
        save = told["version"], told["generation"]
        self._writer.part_lost(*save, rank=told["rank"], reason=told["error"])

    def failed(self, unsaved: Unsaved) -> None:
        """A worker could not stage what was to be saved."""
        self._ledger.failed(unsaved)

    def without(self, going: Iterable[str], generation: Generation | None) -> None:
        """These nodes will not be in the next generation: no state is left with them."""
        if generation is None:
            return
        before = self._keeper(generation)
        self._going, self._asked_of = frozenset(going), generation.number
        keeper = self._keeper(generation)
        if keeper != before:
            for path in self._newest.values():
                self._mirror(path, generation)

    def began(self, generation: Generation) -> None:
        """Saves that wait for the part of a node that is lost are over."""
        going = self._going if self._asked_of == self._generation else frozenset()
        self._generation = generation.number
        if self._server is not None and (key := self._key(generation)) is not None:
            self._server.know(key)
        nodes = [member.node for member in generation.members]
        self._writer.members(generation.number, nodes, going)

    def _keeper(self, generation: Generation) -> str | None:
        """The address of who keeps this node's mirrors."""
        going = self._going if self._asked_of == generation.number else frozenset()
        staying = [m for m in generation.members if m.node == self._node or m.node not in going]
        keeper = buddy(self._node, staying, self._topology)
        return None if keeper is None else keeper.labels.get(MIRROR_LABEL)

    def _key(self, generation: Generation) -> GenerationKey | None:
        """By what its members know each other; None where that is nothing that only they know."""
        secret = generation.secret or self._token
        return GenerationKey(generation.number, secret.encode()) if secret else None

    def _mirror(self, path: Path, generation: Generation) -> None:
        endpoint, key = self._keeper(generation), self._key(generation)
        if endpoint is None:
            return
        if key is None:
            if not self._keyless_told:
                self._keyless_told = True
                self._tell("mirror.failed", {"error": KEYLESS, "endpoint": endpoint})
            return
        failed = partial(self._not_sent, endpoint)
        sending = asyncio.wrap_future(
            self._senders.submit(self._send, path, endpoint, key, failed=failed)
        )
        self._sending.add(sending)
        sending.add_done_callback(self._sent)

    def _sent(self, sending: asyncio.Future[None]) -> None:
        self._sending.discard(sending)
        if not sending.cancelled():
            sending.exception()  # told already

    def _not_sent(self, endpoint: str, error: Exception) -> None:
        self._tell("mirror.failed", {"error": str(error), "endpoint": endpoint})

    def worker_ended(self, local_rank: int, generation: Generation) -> None:
        """What it had staged without being able to say so is kept all the same."""
        for path in Slots(self.directory / own_directory(local_rank)).left_behind():
            self.staged(path, generation)

    async def handed_over(self, seconds: float) -> None:
        """Wait until every mirror that was on its way has arrived or failed to, at most so long."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=seconds)

    def salvage(self) -> str:
        """Save the newest state that lies staged here and at the agents that leave too; blocks.

        Returns what came of it, in words; empty where nothing was left to save.
        """
        # What waits for others' parts is left to what follows: it waits for the newest state alone.
        self._writer.abandon()
        self._writer.close()
        try:
            outcome = salvage(self.directory, node=self._node, given_up=self._given_up.is_set)
        except (OSError, CheckpointError) as error:
            self._tell("checkpoint.failed", {"error": str(error)})
            return f"the state could not be saved: {error}"
        if outcome is None:
            return ""
        self._written(outcome)
        if outcome.error is not None:
            return f"the state could not be saved: {outcome.error}"
        return f"version {outcome.version} is saved"

    def give_up(self) -> None:
        """Wait no longer for other agents' parts of what is being saved."""
        self._given_up.set()
        self._writer.abandon()

    def close(self) -> None:
        """Finish what is being saved, and give the memory back."""
        self._writer.leave()
        self._writer.close()
        if self._server is not None:
            self._server.close()
        self._senders.close(cancel=True)
        self._shelf.remove()

    def _send(self, path: Path, endpoint: str, key: GenerationKey) -> None:
        try:
            if not read_description(path)["mirror"]:
                return
            send_mirror(path, f"{self._node}-{path.parent.name}", endpoint, key)
        except (OSError, CheckpointError) as error:
            self._not_sent(endpoint, error)

    def _written(self, outcome: Outcome) -> None:
        self._in_loop(self._note, outcome)
        if outcome.error is not None:
            self._tell(
                "checkpoint.failed",
                {"version": outcome.version, "rank": outcome.rank, "error": outcome.error},
            )
        elif outcome.path is not None:
            self._tell(
                "checkpoint.commit",
                {
                    "version": outcome.version,
                    "rank": outcome.rank,
                    "path": outcome.path,
                    "bytes": outcome.bytes,
                    "seconds": outcome.seconds,
                },
            )

    def _note(self, outcome: Outcome) -> None:
        if outcome.error is None:
            self._ledger.saved(outcome.version, outcome.generation)
            return
        self._ledger.failed(
            Unsaved(
                version=outcome.version,
                generation=outcome.generation,
                error=outcome.error,
                url=outcome.url,
                options=outcome.options,
            )
        )

    def _tell(self, event: str, fields: dict[str, Any]) -> None:
        self._in_loop(self._report, event, fields)

    def _in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        """From any thread; an agent whose loop has ended hears nothing more."""
        with contextlib.suppress(RuntimeError):
            told = guarded(call, name="news of what is kept", failed=logged)
            self._loop.call_soon_threadsafe(told, *arguments)
