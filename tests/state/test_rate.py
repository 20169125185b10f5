"""A token bucket, with a clock that the tests turn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.state.rate import Rate


def taken(rate: Rate, now_s: float, tries: int = 100) -> int:
    return sum(rate.take(now_s) for _ in range(tries))


def test_a_burst_then_none() -> None:
    assert taken(Rate(10, 5, 0), 0) == 10


def test_it_grows_with_time_and_no_further_than_the_burst() -> None:
    rate = Rate(10, 5, 0)
    assert taken(rate, 0) == 10
    assert taken(rate, 1) == 5
    assert taken(rate, 1.125) == 0
    assert taken(rate, 1.25) == 1
    assert taken(rate, 1000) == 10


def test_it_counts_how_often_it_might_not() -> None:
    rate = Rate(10, 1, 0)
    assert taken(rate, 0, 25) == 10
    assert rate.refused == 15
    assert rate.take_refused() == 15
    assert rate.take_refused() == 0
    assert rate.take(1)
    assert rate.refused == 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    rate = Rate(2, 1, 100)
    assert taken(rate, 100) == 2
    assert taken(rate, 50) == 0
    assert taken(rate, 51) == 1


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 100))),
)
def test_never_more_than_burst_and_rate(burst: int, per_s: int, steps: list) -> None:
    rate = Rate(burst, per_s, 0)
    now_s = 0.0
    total = 0
    for passed_s, tries in steps:
        now_s += passed_s
        total += taken(rate, now_s, tries)
        assert total <= burst + now_s * per_s + 1e-6
