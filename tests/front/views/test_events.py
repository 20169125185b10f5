"""An event as one line."""

from __future__ import annotations

import time

import pytest

from ccproxy_lib.front.views import events

NOON = "2026-01-02 12:00:00.250"


@pytest.fixture
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def line(**members) -> str:
    return events.line({"event": "agent-event", "time": 1767355200.25, "vm": "vm1", **members})


def test_time_event_vm_and_the_rest(utc):
    shown = line(event="process-ended", container="c1", stdio=1, status=3)
    assert shown == f"{NOON}  process-ended      vm1  container=c1  stdio=1  status=3"


def test_what_has_no_vm(utc):
    assert events.line({"event": "dropped", "time": 1767355200.25, "count": 3}) == (
        f"{NOON}  dropped            -  count=3"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two words", 'data="two words"'),
        ('say "x"', r'data="say \"x\""'),
        ("a=b", 'data="a=b"'),
        ("", 'data=""'),
        ("\x1b[31m\n", r'data="\x1b[31m\n"'),
        ("C:\\", r'data="C:\\"'),
        (None, "data=null"),
        ({"a": [1]}, 'data={"a": [1]}'),
        ("x" * 201, "data=" + "x" * 200 + "…"),
    ],
)
def test_values(value, shown):
    assert line(data=value).partition("vm1  ")[2] == shown


def test_nothing_in_it_plays_with_the_terminal():
    assert "\x1b" not in line(event="\x1b", vm="\x1b", reason="\x1b", **{"\x1b": "\x1b"})


@pytest.mark.parametrize("seconds", [1e300, -1e300, float("nan"), None, "x"])
def test_no_time_that_there_is(seconds):
    assert line(time=seconds).endswith("  agent-event        vm1")
