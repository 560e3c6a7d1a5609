"""What a person is told of what a node waits for: the cause, and once."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from trainer.agent import waiting as module
from trainer.agent.waiting import Waiting


class Told:
    """Where notices go."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def event(self, _name: str, **_fields: Any) -> None:
        pass

    async def until(self, count: int) -> None:
        """So many notices are there."""
        async with asyncio.timeout(60):
            while len(self.notices) < count:
                await asyncio.sleep(0)


def failed(error: Exception) -> None:
    raise error


async def test_a_service_that_says_no_is_not_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hangs up after its answer: what is told is the answer, as of a name that is taken."""
    monkeypatch.setattr(module, "NOTICE_SECONDS", 0.0)
    told = Told()
    waiting = Waiting(cast("Any", told), ["h:1"], quiet=lambda: False, failed=failed)
    waiting.refused("node same attends already", trains=False)
    waiting.service_lost(met=False, trains=False)
    await told.until(1)
    refused = "the rendezvous service refuses this node: node same attends already; it asks again"
    assert told.notices == [refused]
    assert waiting.refusal == "node same attends already"
    waiting.service_back()
    assert waiting.refusal == ""
    waiting.service_lost(met=False, trains=False)
    await told.until(3)
    assert told.notices[1:] == [
        "the rendezvous service takes this node in now",
        "no rendezvous service answers at h:1 yet; trying on",
    ]
