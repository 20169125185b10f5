"""Output for a full disk, and for a reader that has gone."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading

import pytest

from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP, wait_until

pytestmark = pytest.mark.heavy

STATIC = [
    ("-version",),
    ("-help",),
    ("-check-config",),
    ("status", "--help"),
    ("agent", "--help"),
    ("shim", "-v"),
    ("demo",),
]
ASKING = [
    ("status",),
    ("top", "--once", "--interval", "0.1"),
    ("hyper", "tools", "version"),
    ("hyper", "tools", "ping", "--json"),
    ("exec", "tools", "echo", "hello"),
]
FULL = b"cc-proxy: the output cannot be written: No space left on device\n"


def run(arguments, stdout, unbuffered: bool = True, stderr=subprocess.PIPE):
    done = subprocess.run(
        [*PROGRAM, *arguments],
        cwd=TOP,
        env=os.environ | {"PYTHONUNBUFFERED": "1" if unbuffered else ""},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stderr


def run_onto_full_disk(arguments, unbuffered: bool = True):
    with open("/dev/full", "wb") as full:
        return run(arguments, full, unbuffered)


def run_for_nobody(arguments, unbuffered: bool = True):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return run(arguments, writer, unbuffered)
    finally:
        os.close(writer)


@pytest.mark.parametrize("arguments", STATIC, ids=" ".join)
def test_a_full_disk(arguments):
    assert run_onto_full_disk(arguments) == (1, FULL)


@pytest.mark.parametrize("arguments", ASKING, ids=" ".join)
def test_a_full_disk_for_what_the_daemon_says(tools, arguments):
    assert run_onto_full_disk(with_path(tools, arguments)) == (1, FULL)


@pytest.mark.parametrize("arguments", [ASKING[0], ASKING[2], ASKING[4]], ids=" ".join)
def test_a_reader_that_is_gone(tools, arguments):
    assert run_for_nobody(with_path(tools, arguments)) == (128 + signal.SIGPIPE, b"")


def with_path(tools, arguments) -> tuple[str, ...]:
    command, *rest = arguments
    return (command, "--socket-path", tools.path, *rest)


@pytest.mark.parametrize("arguments", [("-version",), ("agent", "--help")], ids=" ".join)
def test_it_shows_at_the_end_where_output_is_buffered(arguments):
    assert run_onto_full_disk(arguments, unbuffered=False) == (1, FULL)
    assert run_for_nobody(arguments, unbuffered=False) == (128 + signal.SIGPIPE, b"")


def wait_for_subscriber(tools) -> None:
    wait_until(lambda: json.loads(tools.runtime.call(Command.STATUS))["subscribers"], "it listens")


def test_events_end_with_the_first_that_cannot_be_written(tools):
    results = []
    arguments = with_path(tools, ["events"])
    thread = threading.Thread(target=lambda: results.append(run_onto_full_disk(arguments)))
    thread.start()
    wait_for_subscriber(tools)
    assert tools.exec("tools", "true").returncode == 0
    thread.join()
    assert results == [(1, FULL)]


@pytest.mark.parametrize("pair", [os.pipe, pty.openpty])
def test_events_end_with_their_reader(tools, pair):
    reader, writer = pair()
    arguments = [*PROGRAM, *with_path(tools, ["events"])]
    with subprocess.Popen(
        arguments, cwd=TOP, stdout=writer, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as running:
        os.close(writer)
        wait_for_subscriber(tools)
        os.close(reader)
        assert running.communicate(timeout=PATIENCE_S)[1] == b""
        assert running.returncode == 128 + signal.SIGPIPE


def test_the_exit_status_stays_when_an_error_cannot_be_told():
    with open("/dev/full", "wb") as full:
        assert run(("-nope",), subprocess.DEVNULL, stderr=full) == (2, None)


def test_a_shim_goes_on_when_nobody_hears_what_it_says(tools):
    with tools.started_shim("sh", "-c", "read line; exit 4", flags=("-d",)) as running:
        running.stderr.close()
        running.send_signal(signal.SIGWINCH)
        running.stdin.write(b"go on\n")
        running.stdin.close()
        assert running.wait(PATIENCE_S) == 4
