"""A pod's log: what workers print, each line behind the generation and rank it comes from."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from trainer.agent.launch import Stream
from trainer.agent.output import Pump
from trainer.supervision import awaited


class Console:
    """Keeps what it is given."""

    full = False

    def __init__(self) -> None:
        self.data = b""

    def write(self, stream: Stream, data: bytes) -> None:
        self.data += data


async def test_a_line_is_tagged_with_the_place_its_worker_has_then(tmp_path: Path):
    console = Console()
    pump = Pump(console, shown=Stream.BOTH, prefixed=Stream.BOTH, prefix="[waiting] ")
    out = os.dup(pump.child_ends[Stream.OUT])
    pump.start(awaited)

    async def printed(text: str, shown: str) -> None:
        os.write(out, text.encode())
        async with asyncio.timeout(30):
            while not console.data.decode().endswith(shown):
                await asyncio.sleep(0.01)

    await printed("imports done\n", "[waiting] imports done\n")
    pump.log_to(tmp_path / "g1.log")
    pump.tag("[g1 rank0] ")
    await printed("a\nb\n", "[g1 rank0] a\n[g1 rank0] b\n")
    pump.log_to(tmp_path / "g2.log")
    pump.tag("[g2 rank1] ")
    await printed("c\n", "[g2 rank1] c\n")
    os.close(out)
    pump.finish()
    assert (tmp_path / "g1.log").read_text() == "imports done\na\nb\n"
    assert (tmp_path / "g2.log").read_text() == "c\n"
