"""What a rank hears of its saves."""

from __future__ import annotations

from threading import Timer

from trainer.worker.saves import SaveReports


def test_nothing_is_known_before_it_is_heard() -> None:
    assert SaveReports().wait(4, 0.0) is None


def test_what_went_wrong_is_heard_by_version() -> None:
    reports = SaveReports()
    reports.heard(4, "the disk is full")
    reports.heard(8, "")
    assert reports.wait(4, 0.0) == "the disk is full"
    assert reports.wait(8, 0.0) == ""


def test_who_waits_hears_at_once() -> None:
    reports = SaveReports()
    Timer(0.01, reports.heard, (4, "")).start()
    assert reports.wait(4, 60.0) == ""
