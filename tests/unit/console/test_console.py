"""A console that is full, gone or stands still neither raises nor blocks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from trainer.console import HELD_BYTES, LIMIT_BYTES, STILL_SECONDS, Console

PATIENCE = 30.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its reading and its writing end; a test may close them."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_all_is_written_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    console = Console()
    for number in range(1000):
        console.write(writer, b"%d\n" % number)
    console.close(PATIENCE)
    assert os.read(reader, 1 << 16) == b"".join(b"%d\n" % number for number in range(1000))


def test_what_stands_still_holds_nobody_up_for_long(pipe: tuple[int, int]) -> None:
    _reader, writer = pipe
    console = Console()
    for _ in range(2 * LIMIT_BYTES // 1000):
        console.write(writer, b"x" * 1000)
    assert console.full, "workers wait for a console that is slow"
    deadline = time.monotonic() + PATIENCE + STILL_SECONDS
    while console.full:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not console.flush(0.1)
    console.close(0.1)
    assert not console.full


def test_what_found_no_room_is_left_out_and_counted(
    pipe: tuple[int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    reader, writer = pipe
    console = Console()
    console.write(writer, b"x" * HELD_BYTES)
    console.write(writer, b"y" * LIMIT_BYTES)
    taken = b""
    while len(taken) < HELD_BYTES:
        taken += os.read(reader, 1 << 16)
    assert console.flush(PATIENCE)
    console.close()
    assert taken == b"x" * HELD_BYTES
    assert capfd.readouterr().err == f"remesh: {LIMIT_BYTES} bytes are not shown here\n"


def test_a_reader_that_is_gone_and_a_full_disk_are_no_errors(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    console = Console()
    for _ in range(3):
        console.write(writer, b"a\n")
        console.write(full, b"b\n")
    assert console.flush(PATIENCE)
    console.close()
    os.close(full)


def test_another_process_may_have_made_it_non_blocking(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    console = Console()
    console.write(writer, b"z" * HELD_BYTES)
    taken = 0
    while taken < HELD_BYTES:
        taken += len(os.read(reader, 1 << 16))
    assert console.flush(PATIENCE)
    console.close()


PROGRAM = """\
import os, sys
from trainer.console import shown_beside
with shown_beside():
    print("shown \\u2713")
    print("told", file=sys.stderr)
    sys.stdout.buffer.write(b"bytes\\n")
    opened = os.open("/dev/null", os.O_RDONLY)
    assert opened > 2
sys.exit(3)
"""


def test_a_command_shows_what_it_prints() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        3,
        b"shown \\u2713\nbytes\n",
        b"told\n",
    )


@pytest.mark.parametrize("closing", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_streams_may_be_closed_or_full(closing: str) -> None:
    ended = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {closing}', sys.executable, PROGRAM],
        timeout=PATIENCE,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert ended.returncode == 3
