"""The policy, with a clock that the tests turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.state.ksm import STAGES, Mode, Phase, Settings, Throttle

PAGES = 1_000_000
AGGRESSIVE = Settings(1, PAGES // 10, 1)
STANDARD = Settings(1, PAGES // 100, 10)
SLOW = Settings(1, PAGES // 500, 100)


def phase_after(seconds: float) -> Phase:
    """What the specification says, as a function of the time since the last VM."""
    for phase, end_s in [(Phase.AGGRESSIVE, 30), (Phase.STANDARD, 150), (Phase.SLOW, 270)]:
        if seconds < end_s:
            return phase
    return Phase.FOUND


def test_modes_are_named_as_on_the_command_line() -> None:
    assert [mode.value for mode in Mode] == ["off", "initial", "auto"]


def test_without_a_vm_nothing_is_to_be_done() -> None:
    throttle = Throttle()
    throttle.advance(1e9)
    assert throttle.phase is Phase.FOUND
    assert throttle.settings(PAGES) is None
    assert throttle.next_s is None


def test_one_vm_goes_through_all_phases_and_back() -> None:
    throttle = Throttle()
    throttle.vm_registered(1000)
    for settings, next_s in [(AGGRESSIVE, 1030), (STANDARD, 1150), (SLOW, 1270)]:
        assert throttle.settings(PAGES) == settings
        assert throttle.next_s == next_s
        throttle.advance(next_s - 0.001)
        assert throttle.settings(PAGES) == settings
        throttle.advance(next_s)
    assert throttle.settings(PAGES) is None
    assert throttle.next_s is None


@pytest.mark.parametrize("waited_s", [0, 29, 31, 151, 269, 271])
def test_another_vm_begins_anew_from_every_phase(waited_s: int) -> None:
    throttle = Throttle()
    throttle.vm_registered(0)
    throttle.advance(waited_s)
    throttle.vm_registered(waited_s)
    assert throttle.settings(PAGES) == AGGRESSIVE
    assert throttle.next_s == waited_s + 30


def test_a_late_look_goes_through_all_phases_that_are_over() -> None:
    throttle = Throttle()
    throttle.vm_registered(0)
    throttle.advance(200)
    assert throttle.phase is Phase.SLOW
    assert throttle.next_s == 270


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 400)), max_size=30))
def test_the_phase_depends_on_the_time_since_the_last_vm_only(events) -> None:
    throttle = Throttle()
    now_s = 0
    last_vm_s = float("-inf")
    for is_vm, passed_s in events:
        now_s += passed_s
        if is_vm:
            last_vm_s = now_s
            throttle.vm_registered(now_s)
        else:
            throttle.advance(now_s)
            assert throttle.phase is phase_after(now_s - last_vm_s)
            assert (throttle.next_s is None) == (throttle.phase is Phase.FOUND)
        assert throttle.next_s is None or throttle.next_s > now_s


@given(st.integers(0, 1 << 40))
def test_every_phase_of_ours_scans_something_and_less_than_the_one_before(pages) -> None:
    settings = [STAGES[phase].settings(pages) for phase in Phase if phase is not Phase.FOUND]
    assert all(each.run == 1 and each.pages_to_scan > 0 for each in settings)
    assert sorted(settings, key=lambda each: -each.pages_to_scan) == settings
    assert sorted(settings, key=lambda each: each.sleep_millisecs) == settings
