"""Stream numbers: agents refuse one that was ever used before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.state.input import Input, InputQueue
from ccproxy_lib.state.session import Session
from ccproxy_lib.state.vm import Vm
from ccproxy_lib.wire.frames import Stream


def test_a_process_has_a_number_for_each_way() -> None:
    vm = Vm("vm1")
    session = Session(vm, "token")
    assert (session.stdio, session.stderr) == (0, 0)
    vm.route(session, terminal=False)
    assert (session.stdio, session.stderr) == (1, 2)
    out, err = vm.routes[1], vm.routes[2]
    assert (out.session, out.stream, out.ended) == (session, Stream.STDOUT, False)
    assert (err.session, err.stream, err.ended) == (session, Stream.STDERR, False)


def test_a_terminal_has_one_number_only() -> None:
    vm = Vm("vm1")
    first, second = Session(vm, "a"), Session(vm, "b")
    vm.route(first, terminal=True)
    vm.route(second, terminal=False)
    assert (first.stdio, first.stderr) == (1, 0)
    assert (second.stdio, second.stderr) == (2, 3)
    assert vm.routes.keys() == {1, 2, 3}


def test_numbers_of_a_process_that_is_over_lead_nowhere() -> None:
    vm = Vm("vm1")
    gone, terminal, other = Session(vm, "a"), Session(vm, "b"), Session(vm, "c")
    vm.route(gone, terminal=False)
    vm.route(terminal, terminal=True)
    vm.route(other, terminal=False)
    for session in (gone, terminal, gone):
        vm.unroute(session)
    assert {route.session for route in vm.routes.values()} == {other}
    assert vm.routes.keys() == {other.stdio, other.stderr}


def test_a_session_without_a_process_has_no_numbers_to_forget() -> None:
    vm = Vm("vm1")
    running = Session(vm, "a")
    vm.route(running, terminal=True)
    vm.unroute(Session(vm, "b"))
    assert vm.routes.keys() == {running.stdio}


STEPS = ("terminal", "process", "two", "three", "over", "skip", "skip back")


@given(st.lists(st.sampled_from(STEPS), max_size=60))
def test_a_number_is_never_used_again_and_never_0(steps: list[str]) -> None:
    vm = Vm("vm1")
    used: list[int] = []
    running: list[Session] = []
    for step in steps:
        if step == "over":
            if running:
                vm.unroute(running.pop(0))
        elif step == "skip":
            vm.skip_numbers_to(vm.next_number + 5)
        elif step == "skip back":
            vm.skip_numbers_to(1)
        elif step in ("two", "three"):
            count = 2 if step == "two" else 3
            first = vm.take_numbers(count)
            used += range(first, first + count)
        else:
            session = Session(vm, "token")
            vm.route(session, terminal=step == "terminal")
            used += [session.stdio] if step == "terminal" else [session.stdio, session.stderr]
            running.append(session)
        assert {route.session for route in vm.routes.values()} == set(running)
    assert len(set(used)) == len(used)
    assert 0 not in used


def test_its_traffic_goes_both_ways() -> None:
    vm = Vm("vm1")
    session = Session(vm, "token")
    vm.sessions.add(session)
    session.input = Input(1)
    InputQueue().push(session.input, b"12345")
    assert vm.traffic == session.traffic == (5, 1, 0, 0)
