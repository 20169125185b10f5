"""Rates from two Status answers."""

from __future__ import annotations

from ccproxy_lib.front.views.rates import Change, Rates
from tests.front.views.statuses import session, status, vm


def change(before: dict, now: dict) -> Change:
    return Change(before, now | {"uptimeSeconds": before["uptimeSeconds"] + 2})


def test_of_all():
    now = {"stdinBytes": 10, "outputBytes": 2000, "stdinMessages": 4, "outputMessages": 6}
    found = change(status(), status(totals=now, cpuSeconds=2.0))
    assert found.total == Rates(5, 1000, 2, 3)
    assert found.cpu_share == 0.25


def test_of_a_vm_and_its_sessions():
    before = vm("a", session(outputBytes=100), outputBytes=500)
    now = vm("a", session(outputBytes=140, ageSeconds=12), outputBytes=600, ageSeconds=22)
    found = change(status(before), status(now))
    assert found.of_vm(now) == Rates(0, 50, 0, 0)
    assert found.of_session(now, now["sessions"][0]) == Rates(0, 20, 0, 0)


def test_what_is_new_has_counted_from_nothing():
    now = vm("a", session(outputBytes=40, ageSeconds=1), outputBytes=60, ageSeconds=1)
    found = change(status(), status(now))
    assert found.of_vm(now).bytes_out == 30
    assert found.of_session(now, now["sessions"][0]).bytes_out == 20


def test_an_id_that_is_anothers_by_now_counts_from_nothing():
    before, now = vm("a", outputBytes=500), vm("a", outputBytes=60, ageSeconds=1.5)
    assert change(status(before), status(now)).of_vm(now).bytes_out == 30


def test_of_two_with_the_same_id_the_one_of_the_same_age_is_meant():
    before = [vm("a", outputBytes=900, ageSeconds=90), vm("a", outputBytes=10)]
    now = [vm("a", outputBytes=12, ageSeconds=22), vm("a", outputBytes=902, ageSeconds=92)]
    found = change(status(*before), status(*now))
    assert [found.of_vm(each).bytes_out for each in now] == [1, 1]


def test_what_was_not_in_the_answer_before_is_not_known():
    now = vm("a", session(), ageSeconds=50)
    found = change(status(), status(now))
    assert found.of_vm(now) is None
    assert found.of_session(now, now["sessions"][0]) is None


def test_a_session_whose_process_has_started_since_is_the_same():
    before = vm("a", session(container="", stdio=0, state="claimed"))
    now = vm("a", session(outputBytes=40, ageSeconds=12), ageSeconds=22)
    found = change(status(before), status(now))
    assert found.of_session(now, now["sessions"][0]).bytes_out == 20


def test_without_an_answer_before_nothing_is_known():
    found = Change(None, status(vm("a")))
    assert (found.total, found.cpu_share, found.of_vm(vm("a"))) == (None, None, None)


def test_nothing_is_known_of_another_daemon_or_when_no_time_has_passed():
    assert change(status(), status(pid=13)).total is None
    assert Change(status(), status()).total is None
    assert Change(status(), status(uptimeSeconds=1.0)).total is None


def test_rates_are_never_negative():
    now = vm("a", ageSeconds=22)
    assert change(status(vm("a", outputBytes=9)), status(now)).of_vm(now).bytes_out == 0


def test_processor_time_may_be_unknown():
    assert change(status(cpuSeconds=None), status()).cpu_share is None
