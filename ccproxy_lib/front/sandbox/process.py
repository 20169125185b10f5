"""A running process: its start, its streams and its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import gevent
from gevent.os import nb_read, nb_write
from gevent.subprocess import Popen, SubprocessError

from ccproxy_lib.errors import CommandError
from ccproxy_lib.front.sandbox.descendants import die_with_parent
from ccproxy_lib.front.sandbox.life import Life
from ccproxy_lib.front.sandbox.spec import ProcessSpec
from ccproxy_lib.front.sandbox.stdin_queue import StdinQueue
from ccproxy_lib.front.sandbox.streams import Pipes, Streams, Terminal, take_terminal
from ccproxy_lib.wire import tty

_READ_BYTES = 64 * 1024


class Process:
    """A process that leads a session of its own; starts with the object, or CommandError."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self.stdin = StdinQueue()
        try:
            self._streams: Streams = Terminal() if spec.terminal else Pipes(not spec.stderr)
        except OSError as error:
            raise CommandError(f"no streams for {spec.args[0]}: {error.strerror}") from None
        try:
            self._popen = _start(spec, self._streams)
        except (OSError, ValueError, SubprocessError) as error:
            self._streams.close()
            raise CommandError(f"cannot run {spec.args[0]}: {error}") from None
        finally:
            self._streams.close_process_side()

    @property
    def pid(self) -> int:
        """The process's id, which is its session's, too."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the process itself has not ended; its output may last longer."""
        return self._popen.returncode is None

    def signal(self, number: int) -> None:
        """Signal the process alone; CommandError if that fails."""
        try:
            os.kill(self.pid, number)
        except OSError as error:
            raise CommandError(f"cannot signal the process: {error.strerror}") from None

    def resize(self, row: int, column: int) -> None:
        """Set the terminal's size; the kernel then sends SIGWINCH.  CommandError without one."""
        if not self._streams.terminal:
            raise CommandError("the process has no terminal")
        self._streams.resize(row, column)

    def carry(self, life: Life, send: Callable[[bytes], None], most_bytes: int) -> None:
        """Begin to carry its streams; output goes to ``send`` in I/O messages.

        ``most_bytes`` is the largest data of one message.
        """
        self._feeder = life.spawn(self._feed)
        self._pumps = [
            life.spawn(_pump, fd, number, send, most_bytes)
            for fd, number in zip(self._streams.output_fds, self.spec.stream_numbers, strict=True)
        ]

    def wait(self) -> int:
        """Return the exit status, 128 and the signal's number if one ended it."""
        code = self._popen.wait()
        return code if code >= 0 else 128 - code

    def drain(self) -> None:
        """Wait until all output has been sent, and close the streams.

        Output lasts as long as any process holds the other end.
        """
        gevent.joinall(self._pumps)
        self._feeder.kill()
        self._streams.close()

    def _feed(self) -> None:
        try:
            while data := self.stdin.take():
                _write_all(self._streams.stdin_fd, data)
            self._streams.end_stdin()
        except OSError:
            pass  # The process closed its end.
        finally:
            self.stdin.abandon()


def _start(spec: ProcessSpec, streams: Streams) -> Popen[bytes]:
    def enter_session() -> None:
        _let_signals_in()
        os.setsid()
        die_with_parent()
        if spec.terminal:
            take_terminal()

    stdin, stdout, stderr = streams.process_fds
    return Popen(
        spec.args,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=spec.environment,
        cwd=spec.workdir,
        preexec_fn=enter_session,
    )


def _let_signals_in() -> None:
    """Ignore and hold back none, as in a VM, whoever started the agent; for a forked child."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _pump(fd: int, number: int, send: Callable[[bytes], None], most_bytes: int) -> None:
    while data := _read(fd):
        view = memoryview(data)
        send(
            b"".join(
                tty.encode(number, view[start : start + most_bytes])
                for start in range(0, len(data), most_bytes)
            )
        )
        # Where neither the process nor the host ever makes us wait, the others still get a turn.
        gevent.sleep(0)


def _read(fd: int) -> bytes:
    try:
        return nb_read(fd, _READ_BYTES)
    except OSError:
        # How a terminal that nobody has open any more says end of file.
        return b""


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[nb_write(fd, view) :]
