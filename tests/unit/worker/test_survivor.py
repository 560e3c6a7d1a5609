"""Which step counts after a failure."""

from __future__ import annotations

from dataclasses import asdict

from trainer.worker.ballot import Verdict
from trainer.worker.survivor import newest_verdict


def verdict(loss=1.5, norm=0.25, *, bad=None, generation=3):
    return asdict(Verdict(loss=loss, norm=norm, bad=bad, generation=generation))


def said(version, verdict=None, made_by=None):
    return {"version": version, "verdict": verdict, "made_by": made_by}


def test_nobody_knows_a_verdict():
    assert newest_verdict([said(0), said(0)]) is None


def test_a_step_that_one_rank_applied_counts_for_all():
    found = newest_verdict(
        [said(4, made_by=verdict(2.0, 0.5)), said(5, made_by=verdict(1.5, 0.25))]
    )
    assert found is not None
    version, made_by = found
    assert (version, made_by.loss, made_by.norm) == (5, 1.5, 0.25)


def test_a_step_that_one_rank_saw_agreed_on_counts_for_all():
    found = newest_verdict(
        [said(4, verdict=verdict(1.5, 0.25), made_by=verdict(2.0, 0.5)), said(4)]
    )
    assert found is not None
    assert (found[0], found[1].loss) == (5, 1.5)


def test_a_step_that_nobody_saw_agreed_on_is_forgotten():
    found = newest_verdict([said(4, made_by=verdict(2.0, 0.5)), said(4, made_by=verdict(2.0, 0.5))])
    assert found is not None
    assert found[0] == 4


def test_what_was_bad_about_it_is_told_too():
    found = newest_verdict([said(4, verdict=verdict(bad="its norm is nan")), said(4)])
    assert found is not None
    assert found[1].bad == "its norm is nan"


def test_of_a_step_that_was_done_twice_the_later_time_counts():
    mine, theirs = verdict(1.5, generation=3), verdict(1.25, generation=4)
    found = newest_verdict([said(5, made_by=mine), said(5, made_by=theirs)])
    assert found is not None
    assert (found[0], found[1].loss, found[1].generation) == (5, 1.25, 4)
