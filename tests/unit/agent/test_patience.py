"""Where no service answers, the time that the user gave ends the waiting all the same."""

from __future__ import annotations

import pytest

from trainer.agent.patience import UNLESS_GIVEN, Patience

TIMES = {"join_timeout": 20.0, "wait": 5.0}


@pytest.mark.parametrize(("joins", "limit"), [(True, 20.0), (False, 5.0)])
def test_a_service_that_never_answers_is_given_up(joins: bool, limit: float) -> None:
    patience = Patience(["h:1"], TIMES)

    def over(now: float) -> str:
        return patience.over(unheard=True, joins=joins, waits=not joins, now=now)

    assert over(100.0) == over(100.0 + limit - 0.1) == ""
    said = over(100.0 + limit)
    assert "h:1" in said
    assert f"{limit:g} s" in said
    assert over(200.0) == "", "it is said once"


def test_a_service_that_refuses_is_given_up_with_its_reason() -> None:
    patience = Patience(["h:1"], TIMES)
    waits = {"unheard": True, "joins": True, "waits": False, "refusal": "it holds 1000 jobs"}
    assert patience.over(now=100.0, **waits) == ""  # type: ignore[arg-type]
    said = patience.over(now=120.0, **waits)  # type: ignore[arg-type]
    assert said == (
        "the rendezvous service at h:1 refused this node for 20 s (join_timeout): "
        "it holds 1000 jobs"
    )


def test_a_service_that_answers_in_between_begins_it_anew() -> None:
    patience = Patience(["h:1"], TIMES)
    for now, unheard in ((0.0, True), (4.0, False), (5.0, True), (9.0, True)):
        assert patience.over(unheard=unheard, joins=False, waits=True, now=now) == ""
    assert patience.over(unheard=True, joins=False, waits=True, now=10.0)


def test_training_goes_on_without_a_service_for_good() -> None:
    patience = Patience(["h:1"], TIMES)
    for now in (0.0, 1e6):
        assert patience.over(unheard=True, joins=False, waits=False, now=now) == ""


def test_a_service_in_this_process_is_not_waited_for() -> None:
    patience = Patience([], {})
    for now in (0.0, 10 * UNLESS_GIVEN):
        assert patience.over(unheard=True, joins=True, waits=False, now=now) == ""
