"""The picture of a Status answer: what is in it, in which order, and that it fits."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ccproxy_lib.front.views import columns
from ccproxy_lib.front.views.picture import Frame, picture
from ccproxy_lib.front.views.rates import Change
from tests.front.views.statuses import many, session, status, vm

EVERYTHING = Frame()


def drawn(answer: dict, frame: Frame = EVERYTHING, **more) -> list[str]:
    return [line.plain for line in picture(answer, frame, **more)]


def words(line: str) -> str:
    return " ".join(line.split())


def column(lines: list[str], head: str) -> list[str]:
    """The cells below a head, of the last table that has it, where all are set left."""
    number = max(i for i, line in enumerate(lines) if head in line.split())
    at = lines[number].index(head)
    return [line[at:].split("  ")[0] for line in lines[number + 1 :] if line]


# ---- what is in it


def test_no_vm():
    lines = drawn(status(tokens=0, unclaimedTokens=0))
    assert lines == [
        "cc-proxy 0.1.0-abc1234  pid 12  up 1m40s  log level info  hub lag 0.1 ms",
        "0 VMs  0 sessions  0 tokens  3 clients  1 subscriber",
        "in 0  out 0  buffered 0  memory 30M  CPU 1.5s",
        "",
        "No VM is registered.",
    ]


def test_one_vm():
    traffic = {"stdinBytes": 5, "outputBytes": 2048}
    lines = drawn(status(vm("vm1", session(**traffic), commands=7, **traffic)), Frame(200))
    assert lines[1] == "1 VM  1 session  4 tokens (1 unclaimed)  3 clients  1 subscriber"
    assert words(lines[4]) == (
        "VM STATE AGE SESS IN OUT BUFFER SPOOL CMDS QUEUE AGENT INMSGS OUTMSGS"
    )
    assert words(lines[5]) == "vm1 ok 20s 1 5 2.0K 0 0 7 0 - 0 0"
    assert words(lines[7]).startswith("CONTAINER STATE FOR EXIT AGE SHIM EXEC STREAMS")
    assert words(lines[8]) == "c1 running 2.0s - 10s yes no 1/2 5 2.0K 0 0 0 0 0"


def test_rates_stand_where_totals_did():
    before = status(vm())
    totals = {"stdinBytes": 0, "outputBytes": 2048, "stdinMessages": 0, "outputMessages": 6}
    now = status(vm(**totals, ageSeconds=22.0), totals=totals, uptimeSeconds=102.0)
    lines = drawn(now, Frame(80), change=Change(before, now))
    assert lines[2] == "in 0/s, 0 msg/s  out 1.0K/s, 3 msg/s  buffered 0  memory 30M  CPU 0%"
    assert words(lines[4]) == "VM STATE AGE SESS IN/s OUT/s INMSG/s OUTMSG/s BUFFER"
    assert words(lines[5]) == "vm1 ok 22s 0 0 1.0K 0 3 0"


def test_states_of_sessions_are_counted_where_they_differ():
    sessions = [session(state=state) for state in ("running", "ended_detached", "running")]
    assert drawn(status(vm("a", *sessions)))[2] == "sessions:  2 running  1 ended detached"


def test_troubles_are_told():
    lines = drawn(status(refusals={"max-vms": 2, "x": 0}, drops={"events\x1b": 1}))
    assert lines[3] == r"refused: max-vms 2  dropped: events\x1b 1"


def test_a_limit_that_is_near_is_told():
    limits = {"maxClients": 3, "maxVms": 4096}
    assert "3 clients of 3 at most" in drawn(status(limits=limits))[1]


def test_of_one_vm_that_was_asked_for_nothing_is_added_up():
    lines = drawn(status(vm()), whole=False)
    assert lines[1] == "4 tokens (1 unclaimed)  3 clients  1 subscriber"
    assert "buffered" not in lines[2]


def test_what_an_older_or_newer_daemon_says_otherwise_is_left_open():
    lines = drawn({"vms": [{"id": "a", "sessions": [{"state": None}, 7]}, None], "totals": 5})
    assert column(lines, "CONTAINER") == ["-"]


# ---- order


@pytest.mark.parametrize(
    ("members", "state"),
    [
        ({"full": True, "bufferedBytes": 7}, "full"),
        ({"commandOutstandingSeconds": 31.0}, "agent 31s"),
        ({"commandOutstandingSeconds": 1.5}, "agent 1.5s"),
        ({"commandOutstandingSeconds": 0.5}, "ok"),
        ({"bufferedBytes": 1}, "buffering"),
        ({"unregistered": True}, "leaving"),
        ({}, "ok"),
    ],
)
def test_states_of_vms(members, state):
    assert column(drawn(status(vm(**members))), "STATE") == [state]


@pytest.mark.parametrize(
    ("members", "state"),
    [
        ({"full": True}, "running, full"),
        ({"state": "starting_detached"}, "starting detached"),
        ({"state": "ended", "exitStatus": 3}, "ended"),
    ],
)
def test_states_of_sessions(members, state):
    assert column(drawn(status(vm("a", session(**members)))), "STATE") == [state]


def test_vms_that_are_stuck_come_first_and_then_those_that_are_busy():
    found = [
        vm("idle-2"),
        vm("idle-1"),
        vm("busy", outputBytes=9),
        vm("slow", commandOutstandingSeconds=2.0),
        vm("full", full=True),
    ]
    lines = drawn(status(*found))
    assert column(lines, "VM") == ["full", "slow", "busy", "idle-1", "idle-2"]


def test_sessions_that_are_stuck_come_first_and_those_that_are_over_last():
    found = [
        session(container="over", state="ended"),
        session(container="idle"),
        session(container="busy", outputBytes=9),
        session(container="away", state="detached"),
        session(container="stuck", state="starting", sinceSeconds=9.0),
    ]
    lines = drawn(status(vm("a", *found)))
    assert column(lines, "CONTAINER") == ["stuck", "away", "busy", "idle", "over"]


def test_what_is_busy_now_comes_before_what_was_busy_once():
    before = status(vm("was", outputBytes=999), vm("is"))
    vms = vm("was", outputBytes=999, ageSeconds=22.0), vm("is", outputBytes=9, ageSeconds=22.0)
    now = status(*vms, uptimeSeconds=102.0)
    assert column(drawn(now, change=Change(before, now)), "VM") == ["is", "was"]


# ---- that it fits


def test_without_limits_everything_is_whole():
    lines = drawn(many(500))
    assert len(lines) == 3 + 2 + 500 + 2 + 500
    assert sum(f"{499:064x}" in line for line in lines) == 2


def test_what_does_not_fit_is_told():
    lines = drawn(many(500), Frame(80, 24, "; look there"))
    assert len(lines) == 24
    assert lines[3:5] == ["", "VM" + " " * 21 + lines[4][23:]]
    told = [line for line in lines if line.startswith("...")]
    assert told == ["... and 493 more VMs; look there", "... and 492 more sessions; look there"]
    assert sum(" ok " in line for line in lines) == 500 - 493
    assert sum("running" in line for line in lines) == 500 - 492


def test_sessions_leave_room_to_vms_and_take_what_these_leave():
    few = status(vm("a", *(session(container=f"c{i}") for i in range(50))), vm("b"))
    lines = drawn(few, Frame(80, 24))
    assert [line.split()[0] for line in lines[5:7]] == ["a", "b"]
    assert lines[-1] == f"... and {50 - 14} more sessions"
    assert len(lines) == 24


@pytest.mark.parametrize("height", [5, 6, 7, 8])
def test_with_no_room_the_number_is_told(height):
    lines = drawn(many(500), Frame(80, height))
    assert lines[4] == "500 VMs not shown"
    assert len(lines) <= height


def test_both_ends_of_an_id_stay():
    assert columns.cut_middle("0123456789", 7) == "012…789"
    assert columns.cut_middle("0123456789", 10) == "0123456789"
    assert columns.cut_middle("容器容器", 5) == "容器…"
    assert columns.cut("0123", 0) == ""


@pytest.mark.parametrize("with_rates", [False, True])
def test_in_and_out_go_together(with_rates):
    for table in (columns.vm_columns(with_rates), columns.session_columns(with_rates, True)):
        natural = [max(len(each.head), each.width, each.cut_to or 0) for each in table]
        for width in range(1, 250):
            heads = {at.column.head for _, at in columns.place(table, natural, width)}
            for way_in, way_out in (("IN", "OUT"), ("IN/s", "OUT/s"), ("INMSG/s", "OUTMSG/s")):
                assert (way_in in heads) == (way_out in heads)


def test_where_there_is_room_for_more_columns_none_is_missing():
    table = columns.vm_columns(with_rates=True)
    assert len(columns.place(table, [5] * len(table), 200)) == len(table)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)


def objects(sample: dict, **given_) -> st.SearchStrategy[dict]:
    """Objects with the members of a sample, each of them missing or anything."""
    members = {name: VALUES for name in sample if name not in given_}
    return st.fixed_dictionaries({}, optional=members | given_)


COUNTS = st.dictionaries(st.text(max_size=9), VALUES, max_size=3)
STATES = st.sampled_from(["running", "starting", "detached", "ended"]) | VALUES
STATUSES = objects(
    status(),
    refusals=COUNTS,
    drops=COUNTS,
    totals=objects(status()["totals"]),
    vms=st.lists(
        objects(vm(), sessions=st.lists(objects(session(), state=STATES), max_size=3)), max_size=4
    ),
)


@given(STATUSES, STATUSES, st.integers(1, 250), st.integers(0, 40))
def test_no_line_is_too_wide_and_nothing_gets_through_to_the_terminal(before, now, width, height):
    for change in (None, Change(before, now)):
        lines = drawn(now, Frame(width, height, "; hint"), change=change)
        assert len(lines) <= height
        for line in lines + drawn(now, change=change):
            assert not {unicodedata.category(each)[0] for each in line} & {"C", "M"}
        assert max(map(cell_len, lines), default=0) <= width
