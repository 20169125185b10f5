"""The real program by its command line, seen only through its socket and its output."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from ccproxy_lib.wire.frames import Command, Stream, Type
from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP, Client, Refused, wait_until

# Closes the standard streams of what it becomes.
WITHOUT_STREAMS = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
LEVELS = ("debug", "info", "warn", "error")


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "CC_PROXY_LOG_LEVEL"}
    return inherited | (more or {})


def run(*arguments, program=PROGRAM, env=None, cwd=TOP, stdout=subprocess.PIPE):
    """Run the program to its end; it must not leave a traceback."""
    result = subprocess.run(
        [*program, *arguments],
        env=environment(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in result.stderr, result.stderr
    return result


def refusal(*arguments, status: int, **options) -> str:
    """What the program says when it does not start, which is one line."""
    result = run(*arguments, **options)
    assert (result.returncode, result.stdout) == (status, ""), result
    (line,) = result.stderr.splitlines(keepends=True)
    assert line.startswith("cc-proxy: ")
    assert line.endswith("\n")
    return line.removeprefix("cc-proxy: ").removesuffix("\n")


class Running:
    """The daemon, seen only through its socket and its output."""

    def __init__(self, directory: Path, path: Path, *flags: str, program=PROGRAM, env=None):
        self.path = path
        self._outputs = (directory / "stdout", directory / "stderr")
        with open(self._outputs[0], "wb") as out, open(self._outputs[1], "wb") as err:
            self._process = subprocess.Popen(
                [*program, "-ksm", "initial", *flags],
                env=environment(env),
                cwd=TOP,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        try:
            wait_until(self._listens, "the daemon listens")
            with Client(str(self.path)) as client:
                # Behind this answer it is ready for signals, too.
                assert_answers(client)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def _listens(self) -> bool:
        assert self._process.poll() is None, self.stderr
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(self.path))
            return True
        return False

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def stderr(self) -> str:
        return self._outputs[1].read_text()

    def send_log_entries(self) -> None:
        """Send a shim's log entry of each level, and wait until they are handled."""
        with Client(str(self.path)) as client:
            for level in LEVELS:
                entry = {"source": "shim", "level": level, "msg": f"a-{level}-entry"}
                client.send(Type.STREAM, Stream.LOG, json.dumps(entry).encode())
            assert_answers(client)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self._process.send_signal(number)
        status = self._process.wait(PATIENCE_S)
        assert self._outputs[0].read_text() == ""
        assert "Traceback" not in self.stderr
        return status


def assert_answers(client: Client) -> None:
    with pytest.raises(Refused, match="unknown token"):
        client.call(Command.CONNECT_SHIM, {"token": "x"})


def levels_in(log: str) -> list[str]:
    return [level for level in LEVELS if f"a-{level}-entry" in log]
