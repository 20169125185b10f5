"""Terminals that obey no escape sequence."""

from __future__ import annotations

import contextlib

import pytest

from tests.e2e.harness import PROGRAM
from tests.e2e.terminal import Terminal


@pytest.mark.parametrize("term", [("-u", "TERM"), ("TERM=dumb",), ("TERM=",)])
def test_status_is_plain_and_fits(daemon, registered, term):
    where = ("--socket-path", daemon.path)
    program = ("env", *term, *PROGRAM)
    with contextlib.closing(Terminal("status", *where, columns=60, program=program)) as terminal:
        status, text = terminal.end()
    assert status == 0
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 60
