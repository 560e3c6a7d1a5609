"""Which step counts after a failure."""

from __future__ import annotations

from trainer.worker.survivor import newest_verdict


def said(version, verdict=None, made_by=None):
    return {"version": version, "verdict": verdict, "made_by": made_by}


def test_nobody_knows_a_verdict():
    assert newest_verdict([said(0), said(0)]) is None


def test_a_step_that_one_rank_applied_counts_for_all():
    found = newest_verdict([said(4, made_by=[2.0, 0.5, None]), said(5, made_by=[1.5, 0.25, None])])
    assert found is not None
    version, verdict = found
    assert (version, verdict.loss, verdict.norm) == (5, 1.5, 0.25)


def test_a_step_that_one_rank_saw_agreed_on_counts_for_all():
    found = newest_verdict([said(4, verdict=[1.5, 0.25, None], made_by=[2.0, 0.5, None]), said(4)])
    assert found is not None
    assert (found[0], found[1].loss) == (5, 1.5)


def test_a_step_that_nobody_saw_agreed_on_is_forgotten():
    found = newest_verdict([said(4, made_by=[2.0, 0.5, None]), said(4, made_by=[2.0, 0.5, None])])
    assert found is not None
    assert found[0] == 4


def test_what_was_bad_about_it_is_told_too():
    found = newest_verdict([said(4, verdict=[1.5, 0.25, "its norm is nan"]), said(4)])
    assert found is not None
    assert found[1].bad == "its norm is nan"
