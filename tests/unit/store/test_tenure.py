"""A tenure ends, by our clock, before the server lets another in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rendezvous.store.tenure import Tenure

seconds = st.floats(min_value=0, max_value=1e6)


@given(asked=seconds, ttl=st.floats(min_value=1, max_value=3600), flight=seconds)
def test_it_ends_before_any_server_could_expire_it(asked: float, ttl: float, flight: float) -> None:
    tenure = Tenure(asked, ttl)
    expires_at_the_earliest = asked + flight + ttl
    assert not tenure.held(expires_at_the_earliest)
    assert tenure.ends < expires_at_the_earliest


@given(asked=seconds, ttl=st.floats(min_value=1, max_value=3600))
def test_there_is_time_to_renew_it_twice(asked: float, ttl: float) -> None:
    tenure = Tenure(asked, ttl)
    assert tenure.held(tenure.renew_at)
    assert tenure.renew_at + 1.5 * ttl / 3 < tenure.ends
