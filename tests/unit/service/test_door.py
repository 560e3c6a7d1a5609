"""A crowd is let in by and by, in order."""

from __future__ import annotations

import asyncio
import itertools

from rendezvous.service.door import AT_ONCE, Door


async def test_all_get_in_in_the_order_in_which_they_came() -> None:
    door, entered = Door(), []

    async def enter(number: int) -> None:
        await door.pass_through()
        entered.append(number)

    await asyncio.gather(*(enter(number) for number in range(5 * AT_ONCE)))
    assert entered == list(range(5 * AT_ONCE))


async def test_others_have_their_turn_in_between() -> None:
    door, inside = Door(), 0

    async def enter() -> None:
        nonlocal inside
        await door.pass_through()
        inside += 1

    crowd = [asyncio.create_task(enter()) for _ in range(10 * AT_ONCE)]
    seen = []
    while not all(task.done() for task in crowd):
        await asyncio.sleep(0)
        seen.append(inside)
    assert max(b - a for a, b in itertools.pairwise(seen)) <= AT_ONCE


async def test_who_has_gone_away_is_passed_over() -> None:
    door = Door()
    gone = asyncio.create_task(door.pass_through())
    stays = asyncio.create_task(door.pass_through())
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    assert gone.cancelled()
