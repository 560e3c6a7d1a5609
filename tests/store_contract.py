"""What every Store must do; each implementation's tests subclass these with a `store` fixture."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest

from rendezvous.errors import Deposed, LeaseLost, StoreRefused
from rendezvous.store import (
    Change,
    Changes,
    Compacted,
    Delete,
    Guard,
    Put,
    Snapshot,
    Store,
    elect,
    follow,
    stand,
)

PATIENCE = 30.0
Compact = Callable[[int], Awaitable[None]]


async def take(told: AsyncIterator[Changes | Compacted], count: int) -> list[Change]:
    """The next `count` changes, flat."""
    changes: list[Change] = []
    async with asyncio.timeout(PATIENCE):
        while len(changes) < count:
            item = await anext(told)
            assert isinstance(item, Changes)
            changes += item.changes
    return changes


class Keys:
    async def test_an_absent_key_is_none(self, store: Store) -> None:
        assert await store.get("a") is None
        assert (await store.list("a")).entries == ()
        assert await store.delete("a") is False

    async def test_revisions_are_etcds(self, store: Store) -> None:
        first = await store.put("a", b"1")
        second = await store.put("a", b"2")
        entry = await store.get("a")
        assert entry is not None
        assert (entry.value, entry.create_revision, entry.mod_revision, entry.version) == (
            b"2",
            first,
            second,
            2,
        )
        assert second == first + 1
        assert await store.delete("a") is True
        third = await store.put("a", b"3")
        entry = await store.get("a")
        assert entry is not None
        assert (entry.create_revision, entry.version) == (third, 1)

    async def test_list_is_sorted_and_stays_within_the_prefix(self, store: Store) -> None:
        for key in ("a/2", "a/1", "b/1", "a", "a0", "a/ü"):
            await store.put(key, key.encode())
        last = await store.put("a/3", b"")
        snapshot = await store.list("a/")
        assert [entry.key for entry in snapshot.entries] == ["a/1", "a/2", "a/3", "a/ü"]
        assert snapshot.revision == last
        assert len((await store.list("")).entries) == 7

    async def test_a_long_list_is_whole(self, store: Store) -> None:
        for start in range(0, 2500, 100):
            await store.txn([], [Put(f"n/{i:05}", b"x") for i in range(start, start + 100)])
        keys = [entry.key for entry in (await store.list("n/")).entries]
        assert keys == [f"n/{i:05}" for i in range(2500)]

    async def test_an_empty_value_is_a_value(self, store: Store) -> None:
        await store.put("a", b"")
        entry = await store.get("a")
        assert entry is not None
        assert entry.value == b""


class Transactions:
    async def test_all_writes_or_none(self, store: Store) -> None:
        revision = await store.txn([Guard.absent("a")], [Put("a", b"1"), Put("b", b"1")])
        assert revision is not None
        assert {e.mod_revision for e in (await store.list("")).entries} == {revision}
        assert await store.txn([Guard.absent("a")], [Put("b", b"2"), Delete("a")]) is None
        assert [e.value for e in (await store.list("")).entries] == [b"1", b"1"]

    async def test_every_guard(self, store: Store) -> None:
        created = await store.put("a", b"1")
        changed = await store.put("a", b"2")
        holds = [
            Guard.present("a"),
            Guard.absent("b"),
            Guard.created_at("a", created),
            Guard.unchanged_since("a", changed),
            Guard.unchanged_since("b", 0),
            Guard.holds("a", b"2"),
            Guard("a", "version", 2),
            Guard("a", "version", 1, ">"),
            Guard("a", "mod_revision", changed + 1, "<"),
            Guard("a", "value", b"1", "!="),
        ]
        fails = [
            Guard.absent("a"),
            Guard.present("b"),
            Guard.created_at("a", changed),
            Guard.unchanged_since("a", created),
            Guard.holds("a", b"1"),
            Guard.holds("b", b""),
            Guard("b", "value", b"1", "!="),
            Guard("a", "version", 2, "<"),
        ]
        assert await store.txn(holds, [Put("seen", b"")]) is not None
        for guard in fails:
            assert await store.txn([*holds, guard], [Put("seen", b"")]) is None, guard

    async def test_a_prefix_is_deleted_at_once(self, store: Store) -> None:
        await store.txn([], [Put("a/1", b""), Put("a/2", b""), Put("b", b"")])
        await store.txn([], [Delete("a/", prefix=True), Put("c", b"")])
        assert [e.key for e in (await store.list("")).entries] == ["b", "c"]

    async def test_one_key_twice_is_refused(self, store: Store) -> None:
        with pytest.raises(StoreRefused):
            await store.txn([], [Put("a", b"1"), Put("a", b"2")])
        assert await store.get("a") is None

    async def test_one_of_many_wins(self, store: Store) -> None:
        won = await asyncio.gather(
            *(store.txn([Guard.absent("a")], [Put("a", b"%d" % i)]) for i in range(20))
        )
        assert sum(revision is not None for revision in won) == 1


class Watches:
    async def test_changes_come_in_order_and_once(self, store: Store) -> None:
        start = (await store.list("")).revision + 1
        await store.put("a/1", b"1")
        await store.put("other", b"")
        async with aclosing(store.watch("a/", start=start)) as told:
            seen = await take(told, 1)
            await store.txn([], [Put("a/1", b"2"), Put("a/2", b"1"), Put("b", b"")])
            await store.delete("a/1")
            seen += await take(told, 3)
        assert [(c.key, c.entry and c.entry.value) for c in seen] == [
            ("a/1", b"1"),
            ("a/1", b"2"),
            ("a/2", b"1"),
            ("a/1", None),
        ]
        assert [c.revision for c in seen] == [start, start + 2, start + 2, start + 3]

    async def test_one_transaction_is_told_as_one(self, store: Store) -> None:
        start = (await store.list("")).revision + 1
        async with aclosing(store.watch("", start=start)) as told:
            revision = await store.txn([], [Put(f"k/{i}", b"") for i in range(50)])
            async with asyncio.timeout(PATIENCE):
                item = await anext(told)
        assert isinstance(item, Changes)
        assert item.revision == revision
        assert len(item.changes) == 50

    async def test_many_watchers_see_the_same(self, store: Store) -> None:
        start = (await store.list("")).revision + 1

        async def watch() -> list[int]:
            async with aclosing(store.watch("n", start=start)) as told:
                return [change.revision for change in await take(told, 100)]

        watchers = [asyncio.create_task(watch()) for _ in range(5)]
        for i in range(100):
            await store.put("n", b"%d" % i)
        for seen in await asyncio.gather(*watchers):
            assert seen == list(range(start, start + 100))

    async def test_a_compacted_start_is_told_and_ends_the_watch(
        self, store: Store, compact: Compact
    ) -> None:
        first = await store.put("a", b"1")
        last = 0
        for i in range(5):
            last = await store.put("a", b"%d" % i)
        await compact(last)
        async with asyncio.timeout(PATIENCE):
            items = [item async for item in store.watch("a", start=first)]
        assert items == [Compacted(last)]

    async def test_a_start_that_is_yet_to_come_is_told_and_ends_the_watch(
        self, store: Store
    ) -> None:
        revision = await store.put("a", b"1")
        async with asyncio.timeout(PATIENCE):
            items = [item async for item in store.watch("a", start=revision + 20)]
        assert items == [Compacted(revision)]

    async def test_follow_begins_with_all_there_is(self, store: Store) -> None:
        await store.put("a/1", b"1")
        async with aclosing(follow(store, "a/")) as view, asyncio.timeout(PATIENCE):
            snapshot = await anext(view)
            assert isinstance(snapshot, Snapshot)
            assert [entry.key for entry in snapshot.entries] == ["a/1"]
            await store.delete("a/1")
            changes = await anext(view)
            assert isinstance(changes, Changes)
            assert changes.changes == (
                Change(key="a/1", entry=None, revision=snapshot.revision + 1),
            )


class Leases:
    ttl: float
    """Seconds; the shortest that the store grants."""

    async def test_a_key_dies_with_its_lease(self, store: Store) -> None:
        lease = await store.grant(self.ttl)
        assert lease.ttl >= self.ttl
        await store.put("a", b"1", lease=lease.id)
        revision = await store.txn([], [Put("b", b"1", lease.id), Put("c", b"1")])
        assert revision is not None
        async with aclosing(store.watch("", start=revision + 1)) as told:
            gone = await take(told, 2)
        assert {(c.key, c.entry) for c in gone} == {("a", None), ("b", None)}
        assert [e.key for e in (await store.list("")).entries] == ["c"]
        with pytest.raises(LeaseLost):
            await store.keep_alive(lease.id)
        with pytest.raises(LeaseLost):
            await store.put("a", b"1", lease=lease.id)
        with pytest.raises(LeaseLost):
            await store.txn([], [Put("d", b""), Put("a", b"1", lease.id)])
        assert await store.get("d") is None

    async def test_a_renewed_lease_goes_on(self, store: Store) -> None:
        lease = await store.grant(self.ttl)
        await store.put("a", b"1", lease=lease.id)
        loop = asyncio.get_running_loop()
        end = loop.time() + 2.0 * lease.ttl
        while loop.time() < end:
            assert await store.keep_alive(lease.id) == lease.ttl
            await asyncio.sleep(lease.ttl / 5)
        assert await store.get("a") is not None

    async def test_revoking_removes_the_keys_at_once(self, store: Store) -> None:
        lease = await store.grant(60.0)
        await store.put("a", b"1", lease=lease.id)
        await store.put("b", b"1", lease=lease.id)
        await store.put("b", b"2")
        await store.revoke(lease.id)
        assert [e.key for e in (await store.list("")).entries] == ["b"]
        await store.revoke(lease.id)


class Elections:
    ttl: float

    async def test_one_leads_and_the_next_follows_on_resignation(self, store: Store) -> None:
        first = await elect(store, "leader", b"one", ttl=5.0)
        assert await stand(store, "leader", b"two", ttl=5.0) is None
        waiting = asyncio.create_task(elect(store, "leader", b"two", ttl=5.0))
        assert await first.write([Put("a", b"1")]) is not None
        assert first.held
        assert not waiting.done()
        await first.resign()
        async with asyncio.timeout(PATIENCE):
            second = await waiting
        assert second.token > first.token
        assert not first.held
        assert await first.lost() == "resigned"
        entry = await store.get("leader")
        assert entry is not None
        assert (entry.value, entry.create_revision) == (b"two", second.token)
        await second.resign()

    async def test_a_deposed_leader_cannot_write(self, store: Store) -> None:
        """1. One leads. 2. Its key is taken away behind its back. 3. Two leads. 4. One writes."""
        first = await elect(store, "leader", b"one", ttl=5.0)
        await store.delete("leader")
        second = await elect(store, "leader", b"two", ttl=5.0)
        with pytest.raises(Deposed):
            await first.write([Put("a", b"stale")])
        assert not first.held
        assert await store.get("a") is None
        assert await second.write([Put("a", b"fresh")]) is not None
        await first.resign()
        assert (await store.get("leader")) is not None, "resigning ends one's own lease only"
        await second.resign()

    async def test_a_leader_whose_key_is_removed_hears_of_it(self, store: Store) -> None:
        leader = await elect(store, "leader", b"one", ttl=5.0)
        await store.delete("leader")
        async with asyncio.timeout(PATIENCE):
            assert "the election key is gone" in await leader.lost()
        assert not leader.held
        await leader.resign()

    async def test_a_leader_puts_right_what_is_written_over_its_key(self, store: Store) -> None:
        leader = await elect(store, "leader", b"one", ttl=5.0)
        written = await store.get("leader")
        assert written is not None
        await store.put("leader", b"garbage")
        async with asyncio.timeout(PATIENCE):
            while (entry := await store.get("leader")) is not None and entry.lease == 0:
                await asyncio.sleep(0.01)
        assert entry is not None
        assert (entry.value, entry.lease) == (b"one", written.lease)
        assert leader.held
        await leader.resign()
        assert await store.get("leader") is None

    async def test_a_key_that_is_no_leaders_does_not_stay(self, store: Store) -> None:
        await store.put("leader", b"garbage")
        async with asyncio.timeout(PATIENCE):
            leader = await elect(store, "leader", b"one", ttl=5.0)
        await leader.resign()

    async def test_fenced_writes_obey_their_guards(self, store: Store) -> None:
        leader = await elect(store, "leader", b"one", ttl=5.0)
        first = await leader.write([Put("a", b"1")], [Guard.absent("a")])
        assert first is not None
        assert await leader.write([Put("a", b"2")], [Guard.absent("a")]) is None
        assert await leader.write([Put("a", b"2")], [Guard.unchanged_since("a", first)])
        await leader.resign()

    async def test_fenced_writes_at_once_are_all_made(self, store: Store) -> None:
        leader = await elect(store, "leader", b"one", ttl=5.0)
        done = await asyncio.gather(*(leader.write([Put(f"w/{i}", b"")]) for i in range(50)))
        assert len({*done} - {None}) == 50
        assert len((await store.list("w/")).entries) == 50
        await leader.resign()

    @pytest.mark.parametrize("own_thread", [False, True], ids=["loop", "thread"])
    async def test_leadership_outlasts_its_lease_while_renewed(
        self, store: Store, own_thread: bool
    ) -> None:
        leader = await elect(store, "leader", b"one", ttl=self.ttl, own_thread=own_thread)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(leader.lost(), 2.5 * self.ttl)
        assert leader.held
        assert await leader.write([Put("a", b"1")])
        await leader.resign()


class StoreContract(Keys, Transactions, Watches, Leases, Elections):
    """All of it."""
