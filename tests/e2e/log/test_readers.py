"""Nobody who reads the log can stop the daemon."""

from __future__ import annotations

import json
import os
import re
import subprocess
import termios

import pytest

from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import Client, Refused
from tests.e2e.log.entries import send_entry
from tests.e2e.log.own_stderr import ask, running


def test_a_reader_that_does_not_read_stops_nobody(tmp_path):
    path = tmp_path / "sock"
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as lines:
        with running(path, "-log", "debug", "-log-format", "json", stderr=writer) as daemon:
            os.close(writer)
            with Client(str(path)) as client:
                for number in range(600):  # some 8 KiB each; the pipe takes 64, the daemon 1024
                    send_entry(client, level="info", msg=f"{number} {'x' * 8000}")
                with pytest.raises(Refused):
                    client.call(Command.CONNECT_SHIM, {"token": "x"})
            ask(path)  # and so are others
            assert daemon.poll() is None
            got = b""
            while b"too slow" not in got:
                got += lines.read(1 << 16)
            ask(path)
            while got.count(b"client gone") < 2:
                got += lines.read(1 << 16)
            with Client(str(path)) as client:
                status = json.loads(client.call(Command.STATUS, {"sessions": False}))
        got += lines.read(1 << 20)
    said = [json.loads(line) for line in got.splitlines()]
    entries = [each["msg"].split()[0] for each in said if "source" in each]
    assert entries == [str(number) for number in range(len(entries))]
    assert 100 < len(entries) < 600
    (notice,) = (each for each in said if "too slow" in each["msg"])
    assert notice["level"] == "warning"
    assert notice["count"] >= 600 - len(entries)
    assert status["drops"]["log-lines"] == notice["count"]
    assert said[-1]["msg"] == "stopped"


def test_a_reader_that_is_gone_stops_nobody(tmp_path):
    path = tmp_path / "sock"
    with running(path, "-log", "debug", stderr=subprocess.PIPE) as daemon:
        daemon.stderr.close()
        for _ in range(3):
            ask(path)


def test_a_terminal_that_is_stopped_stops_nobody(tmp_path):
    path = tmp_path / "sock"
    master, slave = os.openpty()
    with open(master, "rb", buffering=0) as screen, open(slave, "wb") as terminal:
        with running(path, "-log", "debug", stderr=terminal):
            termios.tcflow(slave, termios.TCOOFF)  # as Ctrl-S does
            with Client(str(path)) as client:
                for number in range(200):
                    send_entry(client, level="info", msg=f"entry {number}.")
                with pytest.raises(Refused):
                    client.call(Command.CONNECT_SHIM, {"token": "x"})
            ask(path)
            termios.tcflow(slave, termios.TCOON)
            got = b""
            while b"entry 199." not in got:
                got += screen.read(1 << 16)
    assert re.findall(rb"entry (\d+)\.", got) == [b"%d" % number for number in range(200)]


def test_a_reader_that_is_stuck_does_not_keep_the_daemon_from_ending(tmp_path):
    path = tmp_path / "sock"
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0), open(writer, "wb", buffering=0) as stderr:
        with running(path, "-log", "debug", stderr=stderr), Client(str(path)) as client:
            for _ in range(50):
                send_entry(client, level="info", msg="x" * 8000)
            with pytest.raises(Refused):
                client.call(Command.CONNECT_SHIM, {"token": "x"})
