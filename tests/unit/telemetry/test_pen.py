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
    assert pen.lost == 1
    assert "No space left" in caplog.text


def test_a_disk_that_stays_full_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each step has its line: a log of as many complaints would hide the first."""

    def full() -> None:
        raise OSError(28, "No space left on device")

    pen = Pen()
    for write in (full, full, full, lambda: None, full):
        pen.write(write)
    pen.close()
    assert pen.lost == 4
    assert caplog.text.count("No space left") == 1


def test_what_can_not_be_written_is_no_reason_to_leave_out_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    written: list[int] = []

    def flawed() -> None:
        raise TypeError("a fault of ours")

    pen = Pen()
    pen.write(flawed)
    pen.write(lambda: written.append(1))
    pen.wait()
    assert written == [1]
    assert (pen.lost, pen.why) == (1, "a fault of ours")
    assert "a fault of ours" in caplog.text
    pen.close()
