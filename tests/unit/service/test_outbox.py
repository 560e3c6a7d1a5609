"""Messages to one agent: in order, and not without end."""

from __future__ import annotations

import asyncio

from rendezvous.service.outbox import MAX_MESSAGES, Outbox


async def test_messages_come_in_order_and_the_end_after_them() -> None:
    outbox = Outbox(0.0, 1.0)
    outbox.put(b"a", 1.0)
    outbox.put(b"b", 2.0)
    outbox.close()
    outbox.put(b"too late", 3.0)
    assert [await outbox.take(), await outbox.take(), await outbox.take()] == [b"a", b"b", None]
    assert outbox.spoke == 2.0


async def test_a_reader_is_woken() -> None:
    outbox = Outbox(0.0, 1.0)
    reader = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.put(b"a", 1.0)
    assert await reader == b"a"
    reader = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.close()
    assert await reader is None


async def test_an_agent_that_does_not_read_is_cut_off() -> None:
    outbox = Outbox(0.0, 1.0)
    for _ in range(MAX_MESSAGES + 1):
        outbox.put(b"x", 0.0)
    assert await outbox.take() is None
