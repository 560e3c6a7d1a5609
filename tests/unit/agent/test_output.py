"""What workers print: a console that nobody can write to holds nobody up."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from pathlib import Path

import pytest

from trainer.agent.launch import Stream
from trainer.agent.output import CONSOLE_CHUNKS, ConsoleWriter, Pump
from trainer.supervision import awaited

PATIENCE = 60.0


class Flawed(io.RawIOBase):
    """A stream that fails as no stream should."""

    def write(self, data: object) -> int:
        raise ZeroDivisionError


async def test_workers_print_on_though_the_console_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else their pipes would fill, and every rank stand still in a print."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Flawed()))  # type: ignore[type-var]
    console = ConsoleWriter()
    pump = Pump(console, shown=Stream.OUT)
    out = os.dup(pump.child_ends[Stream.OUT])
    pump.log_to(tmp_path / "log")
    pump.start(awaited)
    os.set_blocking(out, False)
    line, sent = b"a line\n", 0
    async with asyncio.timeout(PATIENCE):
        while sent < 2 * CONSOLE_CHUNKS:
            try:
                os.write(out, line)
                sent += 1
            except BlockingIOError:
                pass
            await asyncio.sleep(0)
        while (tmp_path / "log").read_bytes() != line * sent:
            await asyncio.sleep(0.01)
    os.close(out)
    pump.finish()
    console.close()
    assert not console.full


async def test_output_without_a_log_file_is_kept_in_memory(tmp_path: Path) -> None:
    """Its newest is still there to be shown, should the worker fail."""
    (tmp_path / "g1").write_text("no folder")
    console = ConsoleWriter()
    pump = Pump(console)
    out = os.dup(pump.child_ends[Stream.OUT])
    pump.start(awaited)
    with pytest.raises(OSError, match="g1"):
        pump.log_to(tmp_path / "g1" / "rank0.log")
    os.write(out, b"before\n")
    os.close(out)
    async with asyncio.timeout(PATIENCE):
        while pump.early_output() != b"before\n":
            await asyncio.sleep(0.01)
    pump.log_to(tmp_path / "g2" / "rank0.log")
    assert (tmp_path / "g2" / "rank0.log").read_bytes() == b"before\n"
    pump.finish()
    console.close()


async def test_output_that_can_not_be_taken_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    console = ConsoleWriter()
    pump = Pump(console)
    out = os.dup(pump.child_ends[Stream.OUT])
    heard: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def fail(_stream: Stream) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(pump, "_read", fail)
    pump.start(lambda error: heard.done() or heard.set_result(error))
    os.write(out, b"a line\n")
    async with asyncio.timeout(PATIENCE):
        assert isinstance(await heard, ZeroDivisionError)
    monkeypatch.undo()
    os.close(out)
    pump.finish()
    console.close()
