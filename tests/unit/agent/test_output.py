"""What workers print: a console that nobody can write to holds nobody up."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from trainer.agent.launch import Stream
from trainer.agent.output import ConsoleWriter, Pump
from trainer.console import HELD_BYTES, Console
from trainer.supervision import awaited

PATIENCE = 60.0


async def test_workers_print_on_though_the_console_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else their pipes would fill, and every rank stand still in a print."""

    def flawed(descriptor: int, data: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(Console, "_write_out", flawed)
    writer = ConsoleWriter(Console())
    pump = Pump(writer, shown=Stream.OUT)
    out = os.dup(pump.child_ends[Stream.OUT])
    pump.log_to(tmp_path / "log")
    pump.start(awaited)
    os.set_blocking(out, False)
    line, sent = b"a line of some length\n" * 1000, b""
    async with asyncio.timeout(PATIENCE):
        while len(sent) < 2 * HELD_BYTES:
            with contextlib.suppress(BlockingIOError):
                sent += line[: os.write(out, line)]
            await asyncio.sleep(0)
        while (tmp_path / "log").read_bytes() != sent:
            await asyncio.sleep(0.01)
    os.close(out)
    pump.finish()
    writer.close()
    assert not writer.full


async def test_a_line_that_never_ends_is_shown_behind_one_prefix(tmp_path: Path) -> None:
    shown: list[bytes] = []

    class Shown(ConsoleWriter):
        def write(self, stream: Stream, data: bytes) -> None:
            shown.append(data)

    pump = Pump(Shown(Console()), shown=Stream.OUT, prefixed=Stream.OUT, prefix="[0] ")
    out = os.dup(pump.child_ends[Stream.OUT])
    pump.log_to(tmp_path / "log")
    pump.start(awaited)
    os.set_blocking(out, False)
    text = memoryview(b"first\n" + b"x" * 8_000_000)
    async with asyncio.timeout(PATIENCE):
        while text:
            with contextlib.suppress(BlockingIOError):
                text = text[os.write(out, text) :]
            await asyncio.sleep(0)
    os.close(out)
    pump.finish()
    assert b"".join(shown) == b"[0] first\n[0] " + b"x" * 8_000_000 + b"\n"


async def test_output_without_a_log_file_is_kept_in_memory(tmp_path: Path) -> None:
    """Its newest is still there to be shown, should the worker fail."""
    (tmp_path / "g1").write_text("no folder")
    console = ConsoleWriter(Console())
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
    console = ConsoleWriter(Console())
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
