"""Processes of the sandbox agent that have a terminal."""

from __future__ import annotations

import signal
import sys

import pytest

from ccproxy_lib.wire.ctl import Code
from tests.sandbox.agent import Sandbox

pytestmark = pytest.mark.heavy

# Says what its terminal's size is, once at first and then on each change.
SIZE_TELLER = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
open("/dev/tty").close()
while True:
    print("size", *os.get_terminal_size(0), flush=True)
    signal.sigwait([signal.SIGWINCH])
"""


def test_terminal_and_its_size(shared: Sandbox) -> None:
    teller = shared.run(sys.executable, "-c", SIZE_TELLER, terminal=True)
    shared.io.read_until(teller.stdio, b"size 0 0\r\n")
    shared.control.call(Code.WIN_SIZE, {"seq": teller.stdio, "row": 24, "column": 80})
    shared.io.read_until(teller.stdio, b"size 80 24\r\n")
    newer_form = {"container": teller.container, "process": "init", "row": 50, "column": 132}
    shared.control.call(Code.WIN_SIZE, newer_form)
    shared.io.read_until(teller.stdio, b"size 132 50\r\n")


def test_end_of_stdin_on_a_terminal_is_its_eof_character(shared: Sandbox) -> None:
    cat = shared.run("cat", terminal=True)
    shared.io.send(cat.stdio, b"hello\n")
    shared.io.read_until(cat.stdio, b"hello\r\nhello\r\n")
    shared.io.send(cat.stdio)
    assert shared.io.status(cat.stdio) == 0


def test_interrupt_character_reaches_the_foreground(shared: Sandbox) -> None:
    shell = shared.run("sh", "-c", "echo up; exec sleep 1000", terminal=True)
    shared.io.read_until(shell.stdio, b"up")
    shared.io.send(shell.stdio, b"\x03")
    assert shared.io.status(shell.stdio) == 128 + signal.SIGINT
