"""The record is written in order, and nobody waits for it."""

from __future__ import annotations

import logging
import threading

import pytest

from trainer.telemetry.pen import Pen


def test_a_slow_disk_delays_the_record_and_not_who_keeps_it() -> None:
    disk, written = threading.Event(), []
    pen = Pen()
    pen.write(disk.wait)
    for number in range(3):
        pen.write(lambda n=number: written.append(n))
    assert pen.behind
    assert written == []
    disk.set()
    pen.wait()
    assert not pen.behind
    assert written == [0, 1, 2]
    pen.close()


def test_what_is_left_is_written_at_the_end() -> None:
    written: list[int] = []
    pen = Pen()
    for number in range(100):
        pen.write(lambda n=number: written.append(n))
    pen.close()
    assert written == list(range(100))


def test_a_full_disk_costs_a_line_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    written: list[int] = []

    def full() -> None:
        raise OSError(28, "No space left on device")

    pen = Pen()
    pen.write(full)
    pen.write(lambda: written.append(1))
    with caplog.at_level(logging.ERROR):
        pen.close()
    assert written == [1]
    assert "No space left" in caplog.text
