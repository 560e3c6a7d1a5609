"""Workers that end when nobody is there any more to be told."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psutil

from rendezvous.generation import Generation, Member
from trainer.agent.hands import Hands
from trainer.agent.launch import Launch, Membership, Script
from trainer.telemetry import RunDirectory


def test_a_worker_killed_at_the_very_end_is_reaped_without_a_word(tmp_path: Path) -> None:
    """The loop still runs when the agent has closed its hands, as it ends its other parts: what
    it hears then of a worker that it killed is no failure of its own."""
    launch = Launch(
        run_id="hands",
        directory=tmp_path,
        job_text="",
        slots=1,
        workers=Script(argv=(sys.executable, "-c", "import time; time.sleep(600)")),
        membership=Membership(),
    )
    alone = Member(node="a", incarnation=1, slots=1, host="127.0.0.1", store_endpoint="127.0.0.1:1")
    generation = Generation(number=1, members=(alone,), reason="start")
    told: list[object] = []

    async def scene() -> None:
        hands = Hands(
            launch,
            RunDirectory(tmp_path),
            ended=lambda worker, how: told.append(how),
            heard=lambda worker, message: told.append(message),
            not_started=lambda number, error: told.append(error),
            failed=told.append,
        )
        worker = hands.enter(1, 0, generation, "a", None)
        assert worker is not None
        process = psutil.Process(worker.pid)
        hands.close()
        while process.is_running():  # The loop has to go on, so that it is reaped.
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(scene(), 60))
    assert told == []
