"""The life of a session: what can happen in which state, and what cannot."""

from __future__ import annotations

import time

import pytest

from ccproxy_lib.errors import CommandError
from ccproxy_lib.state.session import (
    BEFORE_PROCESS,
    OVER,
    STARTING,
    WITH_PROCESS,
    WITHOUT_SHIM,
    Event,
    Session,
    State,
)
from ccproxy_lib.state.vm import Vm
from ccproxy_lib.wire.frames import FrameParser, Stream, Type

CLAIMED = "token already claimed: T"
USED = "token already used for a process: T"
OVER_TEXT = "the session of token T has ended"


def cannot(event: Event, state: State) -> str:
    return f"token T cannot {event.name.lower()} while {state.name.lower()}"


# How a session gets into each state.
WAY: dict[State, tuple[Event, ...]] = {
    State.ALLOCATED: (),
    State.CLAIMED: (Event.CLAIM,),
    State.STARTING: (Event.CLAIM, Event.START),
    State.STARTING_DETACHED: (Event.CLAIM, Event.START, Event.LOSE),
    State.RUNNING: (Event.CLAIM, Event.START, Event.STARTED),
    State.DETACHED: (Event.CLAIM, Event.START, Event.STARTED, Event.LOSE),
    State.ENDED: (Event.CLAIM, Event.START, Event.STARTED, Event.END),
    State.ENDED_DETACHED: (Event.CLAIM, Event.START, Event.STARTED, Event.END, Event.LOSE),
    State.FREED: (Event.FREE,),
}
# Each event in each state: the next state, or the text of the refusal.
TABLE: dict[State, dict[Event, State | str]] = {
    State.ALLOCATED: {
        Event.CLAIM: State.CLAIMED,
        Event.LOSE: cannot(Event.LOSE, State.ALLOCATED),
        Event.START: cannot(Event.START, State.ALLOCATED),
        Event.STARTED: cannot(Event.STARTED, State.ALLOCATED),
        Event.END: cannot(Event.END, State.ALLOCATED),
        Event.FREE: State.FREED,
    },
    State.CLAIMED: {
        Event.CLAIM: CLAIMED,
        Event.LOSE: State.ALLOCATED,
        Event.START: State.STARTING,
        Event.STARTED: cannot(Event.STARTED, State.CLAIMED),
        Event.END: State.ENDED,
        Event.FREE: State.FREED,
    },
    State.STARTING: {
        Event.CLAIM: CLAIMED,
        Event.LOSE: State.STARTING_DETACHED,
        Event.START: USED,
        Event.STARTED: State.RUNNING,
        Event.END: State.ENDED,
        Event.FREE: State.FREED,
    },
    State.STARTING_DETACHED: {
        Event.CLAIM: State.STARTING,
        Event.LOSE: cannot(Event.LOSE, State.STARTING_DETACHED),
        Event.START: USED,
        Event.STARTED: State.DETACHED,
        Event.END: State.ENDED_DETACHED,
        Event.FREE: State.FREED,
    },
    State.RUNNING: {
        Event.CLAIM: CLAIMED,
        Event.LOSE: State.DETACHED,
        Event.START: USED,
        Event.STARTED: cannot(Event.STARTED, State.RUNNING),
        Event.END: State.ENDED,
        Event.FREE: State.FREED,
    },
    State.DETACHED: {
        Event.CLAIM: State.RUNNING,
        Event.LOSE: cannot(Event.LOSE, State.DETACHED),
        Event.START: USED,
        Event.STARTED: cannot(Event.STARTED, State.DETACHED),
        Event.END: State.ENDED_DETACHED,
        Event.FREE: State.FREED,
    },
    State.ENDED: {
        Event.CLAIM: CLAIMED,
        Event.LOSE: State.ENDED_DETACHED,
        Event.START: OVER_TEXT,
        Event.STARTED: State.ENDED,
        Event.END: OVER_TEXT,
        Event.FREE: State.FREED,
    },
    State.ENDED_DETACHED: {
        Event.CLAIM: State.ENDED,
        Event.LOSE: OVER_TEXT,
        Event.START: OVER_TEXT,
        Event.STARTED: State.ENDED_DETACHED,
        Event.END: OVER_TEXT,
        Event.FREE: State.FREED,
    },
    State.FREED: {
        Event.CLAIM: OVER_TEXT,
        Event.LOSE: OVER_TEXT,
        Event.START: OVER_TEXT,
        Event.STARTED: State.FREED,
        Event.END: OVER_TEXT,
        Event.FREE: OVER_TEXT,
    },
}
EACH = pytest.mark.parametrize(
    ("state", "event"),
    [(state, event) for state in State for event in Event],
    ids=lambda value: value.name,
)


def session_in(state: State) -> Session:
    session = Session(Vm("vm1"), "T")
    for event in WAY[state]:
        session.apply(event)
    assert session.state is state
    return session


def frames_of(session: Session) -> list[tuple[int, int, bytes]]:
    """Return the frames that wait for the session's shim, and take them."""
    found = []
    parser = FrameParser()
    while buffers := session.output.queue.buffers():
        sent = b"".join(buffers)
        found += [(f.type, f.opcode, bytes(f.payload)) for f in parser.feed(sent)]
        session.output.queue.consume(len(sent))
    return found


# ---- the table


def test_the_table_here_has_every_event_in_every_state() -> None:
    assert TABLE.keys() == set(State) == WAY.keys()
    assert all(row.keys() == set(Event) for row in TABLE.values())


@EACH
def test_an_event_leads_to_the_next_state_or_is_refused_and_changes_nothing(
    state: State, event: Event
) -> None:
    session = session_in(state)
    expected = TABLE[state][event]
    assert session.can(event) == isinstance(expected, State)
    if isinstance(expected, State):
        session.apply(event)
        assert session.state is expected
    else:
        with pytest.raises(CommandError) as caught:
            session.apply(event)
        assert str(caught.value) == expected
        assert session.state is state


def test_kinds_of_states_are_what_they_are_called() -> None:
    claimable = {state for state in State if isinstance(TABLE[state][Event.CLAIM], State)}
    startable = {state for state in State if isinstance(TABLE[state][Event.START], State)}
    assert claimable == WITHOUT_SHIM
    assert startable < BEFORE_PROCESS
    groups = [BEFORE_PROCESS, STARTING, WITH_PROCESS, OVER]
    assert sorted(state.value for group in groups for state in group) == [s.value for s in State]


def test_a_session_without_a_token_needs_no_shim_to_be_started() -> None:
    session = Session(Vm("vm1"), "")
    session.apply(Event.START)
    session.apply(Event.STARTED)
    assert session.state is State.RUNNING


@EACH
def test_the_time_of_the_last_step_is_noted(state: State, event: Event) -> None:
    session = session_in(state)
    since_s = session.since_s
    before_s = time.monotonic()
    if session.can(event):
        session.apply(event)
        assert before_s <= session.since_s <= time.monotonic()
    else:
        with pytest.raises(CommandError):
            session.apply(event)
        assert session.since_s == since_s


# ---- watchers


def test_watchers_see_the_new_state_of_each_step() -> None:
    session = Session(Vm("vm1"), "T")
    seen: list[State] = []
    session.watchers.append(lambda: seen.append(session.state))
    session.apply(Event.CLAIM)
    session.apply(Event.LOSE)
    assert seen == [State.CLAIMED, State.ALLOCATED]


def test_watchers_do_not_hear_of_what_is_refused() -> None:
    session = session_in(State.CLAIMED)
    seen: list[State] = []
    session.watchers.append(lambda: seen.append(session.state))
    with pytest.raises(CommandError):
        session.apply(Event.CLAIM)
    assert not session.can(Event.STARTED)
    assert seen == []


def test_a_watcher_may_leave_while_it_is_told() -> None:
    session = Session(Vm("vm1"), "T")
    seen: list[str] = []

    def once() -> None:
        seen.append("once")
        session.watchers.remove(once)

    session.watchers += [once, lambda: seen.append("always")]
    session.apply(Event.CLAIM)
    session.poke()
    assert seen == ["once", "always", "always"]


# ---- the end


@pytest.mark.parametrize(
    "state", [state for state in State if isinstance(TABLE[state][Event.END], State)]
)
def test_the_exit_status_is_noted_and_told_behind_the_output(state: State) -> None:
    session = session_in(state)
    session.output.add(Stream.STDOUT, memoryview(b"last words"))
    assert session.end(7)
    assert session.exit_status == 7
    assert session.state is TABLE[state][Event.END]
    assert frames_of(session) == [
        (Type.STREAM, Stream.STDOUT, b"last words"),
        (Type.NOTIFICATION, 0, b"\x07"),
    ]


@pytest.mark.parametrize(
    "state", [state for state in State if isinstance(TABLE[state][Event.END], str)]
)
def test_a_session_that_is_over_or_has_no_shim_yet_does_not_end(state: State) -> None:
    session = session_in(state)
    seen: list[State] = []
    session.watchers.append(lambda: seen.append(session.state))
    assert not session.end(7)
    assert session.exit_status is None
    assert session.state is state
    assert seen == [] and frames_of(session) == []


def test_a_session_ends_once() -> None:
    session = session_in(State.RUNNING)
    assert session.end(7)
    assert not session.end(8)
    assert session.exit_status == 7
    assert frames_of(session) == [(Type.NOTIFICATION, 0, b"\x07")]


def test_a_shim_that_takes_over_finds_what_its_process_has_left() -> None:
    session = session_in(State.DETACHED)
    session.output.add(Stream.STDERR, memoryview(b"oops"))
    assert session.end(1)
    session.claim()
    assert session.state is State.ENDED
    assert frames_of(session) == [
        (Type.STREAM, Stream.STDERR, b"oops"),
        (Type.NOTIFICATION, 0, b"\x01"),
    ]


def test_an_exit_status_that_went_down_with_a_connection_is_told_again() -> None:
    session = session_in(State.RUNNING)
    session.end(0)
    assert frames_of(session) == [(Type.NOTIFICATION, 0, b"\x00")]
    session.apply(Event.LOSE)
    session.claim()
    assert frames_of(session) == [(Type.NOTIFICATION, 0, b"\x00")]


def test_a_claim_makes_up_no_exit_status() -> None:
    session = Session(Vm("vm1"), "T")
    session.claim()
    assert session.state is State.CLAIMED
    assert frames_of(session) == []
    with pytest.raises(CommandError, match=f"^{CLAIMED}$"):
        session.claim()


@pytest.mark.parametrize("state", [state for state in State if state is not State.FREED])
def test_freeing_drops_the_output_and_all_that_will_come(state: State) -> None:
    session = session_in(state)
    session.output.add(Stream.STDOUT, memoryview(b"unread"))
    session.output.keep_unsent()
    assert session.free()
    assert session.state is State.FREED
    session.output.add(Stream.STDOUT, memoryview(b"late"))
    session.output.keep_unsent()
    assert frames_of(session) == []
    assert not session.free(), "it has happened already"
