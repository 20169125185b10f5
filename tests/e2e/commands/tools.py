"""The commands that use a running daemon, and a VM for them."""

from __future__ import annotations

import contextlib
import subprocess

from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP, container

# Every byte, in no order that a text would have, and no multiple of a buffer's size.
DATA = bytes(range(256)) * 1171


class Tools:
    """A VM on the daemon, with a container in it, and the commands."""

    def __init__(self, path: str, vm_id: str, runtime):
        self.path = path
        self.vm_id = vm_id
        self.runtime = runtime

    def run(self, *arguments, **options):
        """Run a command to its end; it must not leave a traceback, nor more than one line."""
        options = {"stdin": subprocess.DEVNULL} | options if "input" not in options else options
        result = subprocess.run(
            [*PROGRAM, *arguments],
            cwd=TOP,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
            **options,
        )
        assert b"Traceback" not in result.stderr, result.stderr
        return result

    def hyper(self, *arguments, **options):
        return self.run("hyper", "--socket-path", self.path, *arguments, **options)

    def exec(self, *arguments, **options):
        return self.run("exec", "--socket-path", self.path, *arguments, **options)

    def token(self) -> str:
        return self.runtime.attach(self.vm_id, 1)[0]

    def shim(self, token: str, *more: str, path: str = "") -> list[str]:
        """The command line of a shim."""
        address = f"unix://{path or self.path}"
        return [*PROGRAM, "shim", "-c", "the-container", "-t", token, "-u", address, *more]

    @contextlib.contextmanager
    def started_shim(self, *process, path: str = "", flags=(), **data):
        """A shim with pipes, and its process."""
        token = self.token()
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = self.shim(token, *flags, path=path)
        with subprocess.Popen(command, cwd=TOP, **streams) as running:
            try:
                self.runtime.hyper("newcontainer", container(token, *process, **data), token)
                yield running
                assert running.stderr.closed or token.encode() not in running.stderr.read()
            finally:
                running.kill()


def error(result) -> str:
    """The one line that tells what was wrong."""
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("cc-proxy: ")
    return line.removeprefix("cc-proxy: ")


def pipes() -> dict:
    return dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
