"""A daemon whose stderr is the test's own, and a client that is refused."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from pathlib import Path

import pytest

from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP, Client, Refused, wait_until


@contextlib.contextmanager
def running(path: Path, *flags: str, **options):
    """Run a daemon with a stderr of the test's own, until it has been told to stop."""
    program = [*PROGRAM, "-socket-path", str(path), "-ksm", "initial"]
    process = subprocess.Popen(
        [*program, *flags], cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options
    )
    try:
        wait_until(lambda: answers(process, path), "the daemon answers")
        yield process
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def answers(process, path: Path) -> bool:
    assert process.poll() is None
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def ask(path: Path, command: int = Command.CONNECT_SHIM) -> None:
    """Be a client that is refused, and answered."""
    with Client(str(path)) as client, pytest.raises(Refused):
        client.call(command, {"token": "x"})
