"""How the daemon ends, and what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from ccproxy_lib.wire.frames import Command
from tests.e2e.command_line.program import WITHOUT_STREAMS, assert_answers
from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP, Client, wait_until

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_in_order(start, path, number):
    assert start().stop(number) == 0
    assert not path.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_as_soon_as_its_file_is_there(path, number):
    program = subprocess.Popen([*PROGRAM, "-ksm", "initial", "-socket-path", str(path)], cwd=TOP)
    while not path.exists():
        assert program.poll() is None
    program.send_signal(number)
    assert program.wait(PATIENCE_S) == 0
    assert os.listdir(path.parent) == []


def test_the_end_of_a_terminal_is_no_matter_under_nohup(path):
    command = ["nohup", *PROGRAM, "-ksm", "initial", "-socket-path", str(path)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=TOP, **pipes) as program:
        wait_until(path.exists, "the socket's file is there")
        program.send_signal(signal.SIGHUP)
        with Client(str(path)) as runtime:
            assert runtime.call(Command.STATUS, {})
        # That the signal is held back, and comes later, would not do.
        status = Path(f"/proc/{program.pid}/status").read_text()
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        assert ignored & 1 << signal.SIGHUP - 1
        program.terminate()
        assert program.wait(PATIENCE_S) == 0


def test_it_ends_in_order_with_clients_there(start, path):
    daemon = start()
    with Client(str(path)) as client:
        assert_answers(client)
        assert daemon.stop() == 0
        assert client.frame() is None


def test_a_file_that_took_the_sockets_place_survives(start, path):
    daemon = start()
    path.unlink()
    path.write_text("precious")
    assert daemon.stop() == 0
    assert path.read_text() == "precious"


def test_it_needs_no_standard_streams(start):
    daemon = start("-log", "debug", program=(*WITHOUT_STREAMS, *PROGRAM))
    daemon.send_log_entries()
    assert daemon.stop() == 0
