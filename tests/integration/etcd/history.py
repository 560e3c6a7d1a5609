"""Writers and watchers that keep account, so that what is lost or told twice can be found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from rendezvous.errors import OutcomeUnknown, StoreUnavailable
from rendezvous.etcd import EtcdClient
from rendezvous.store import Changes, Compacted, Snapshot, follow

PATIENCE = 60.0


@dataclass
class Writer:
    """Puts `w/<number>` one after the other, and never tries a number twice."""

    client: EtcdClient
    acknowledged: dict[str, int] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    _number: int = 0
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        while True:
            key = f"w/{self._number:06}"
            self._number += 1
            try:
                self.acknowledged[key] = await self.client.put(key, key.encode())
                self._grown.set()
            except OutcomeUnknown:
                self.unknown.add(key)
            except StoreUnavailable:
                continue
            await asyncio.sleep(0.002)

    async def more(self, count: int = 20) -> None:
        """Wait until `count` more writes are acknowledged."""
        goal = len(self.acknowledged) + count
        async with asyncio.timeout(PATIENCE):
            while len(self.acknowledged) < goal:
                self._grown.clear()
                await self._grown.wait()


@dataclass
class Watcher:
    """Keeps every change under `w/` from `start` on."""

    client: EtcdClient
    start: int
    seen: list[tuple[int, str]] = field(default_factory=list)
    compactions: int = 0
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        async with aclosing(self.client.watch("w/", start=self.start)) as told:
            async for item in told:
                assert not isinstance(item, Compacted)
                self.seen += [(change.revision, change.key) for change in item.changes]
                self._grown.set()

    async def reach(self, revision: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while not self.seen or self.seen[-1][0] < revision:
                self._grown.clear()
                await self._grown.wait()


@dataclass
class View:
    """A prefix kept in view by `follow`."""

    client: EtcdClient
    keys: set[str] = field(default_factory=set)
    revision: int = 0
    lists: int = 0
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        async with aclosing(follow(self.client, "w/")) as told:
            async for item in told:
                match item:
                    case Snapshot():
                        self.keys = {entry.key for entry in item.entries}
                        self.lists += 1
                    case Changes():
                        for change in item.changes:
                            (self.keys.add if change.entry else self.keys.discard)(change.key)
                self.revision = item.revision
                self._grown.set()

    async def reach(self, revision: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.revision < revision:
                self._grown.clear()
                await self._grown.wait()


@asynccontextmanager
async def history(client: EtcdClient, *others: EtcdClient) -> AsyncIterator[Writer]:
    """A writer at work on `client`, watched by it and by `others`; at the end the books must agree.

    Nothing acknowledged is lost, nothing is written twice, and no watcher missed, doubled or
    reordered a change: all held against the store's own account.
    """
    start = (await client.list("")).revision + 1
    writer = Writer(client)
    watchers = [Watcher(watching, start) for watching in (client, *others)]
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(writer.run())
        watching = [group.create_task(watcher.run()) for watcher in watchers]
        await writer.more()
        for watcher in watchers:
            await watcher.reach(max(writer.acknowledged.values()))
        yield writer
        writing.cancel()
        await asyncio.wait([writing])
        snapshot = await client.list("w/")
        truth = [(entry.mod_revision, entry.key) for entry in snapshot.entries]
        truth.sort()
        for watcher in watchers:
            await watcher.reach(truth[-1][0])
        for task in watching:
            task.cancel()
    kept = {key: revision for revision, key in truth}
    assert all(entry.version == 1 for entry in snapshot.entries), "a write was made twice"
    lost = {key for key, at in writer.acknowledged.items() if kept.get(key) != at}
    assert not lost
    assert set(kept) <= set(writer.acknowledged) | writer.unknown
    for watcher in watchers:
        assert watcher.seen == truth
