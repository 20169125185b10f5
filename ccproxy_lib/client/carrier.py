"""Carries a session between its shim and this program's own descriptors.

One loop, one thread: it waits with poll for whatever can go on, and nothing
that is stuck holds up the rest.  Output that nobody takes keeps no signal from
the process, and stdin that the proxy does not take keeps no output back.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ccproxy_lib.client.shim import STDIN_BYTES, Shim
from ccproxy_lib.client.signals import Signals
from ccproxy_lib.client.terminal import unstopped
from ccproxy_lib.errors import StartError
from ccproxy_lib.wire.frames import Stream

# What fits into a pipe, and into a terminal, that poll calls writable.
PIPE_BYTES = select.PIPE_BUF
TERMINAL_BYTES = 256
# From here on output waits in the proxy, where it waits best.
BACKLOG_BYTES = 256 * 1024


class Carrier:
    """Reads stdin from the descriptor ``source``, if any, and writes to 1 and 2.

    Its shim is made with :meth:`keep` as ``sink``.  ``size`` returns the
    terminal's columns and rows, if there is one.  Each signal that is caught
    meanwhile goes to ``on_signal``, or else to the process; ``on_refusal`` gets the
    text where the proxy could not deliver one.  With ``lossy``, output that
    nobody reads any more is dropped; without, it is a BrokenPipeError.
    """

    def __init__(self, source: int | None, lossy: bool = False) -> None:
        self.on_signal: Callable[[int], None] = self.forward
        self.on_refusal: Callable[[str], None] = lambda text: None
        self.size: Callable[[], tuple[int, int]] | None = None
        self.targets: dict[int, int] = {Stream.STDOUT: 1, Stream.STDERR: 2}
        self._source = source
        self._lossy = lossy
        self._to_forward: deque[int] = deque()
        self._input: bytes | None = None
        self._output: deque[tuple[int, memoryview]] = deque()
        self._backlog_bytes = 0
        self._dead: set[int] = set()

    def keep(self, stream: int, data: bytes) -> None:
        """Take output that has come, to be written when its descriptor takes it."""
        target = self.targets[stream]
        if data and target not in self._dead:
            self._output.append((target, memoryview(data)))
            self._backlog_bytes += len(data)

    def forward(self, number: int) -> None:
        """Send a signal to the process; of SIGWINCH, the terminal's size."""
        if number != signal.SIGWINCH or self.size:
            self._to_forward.append(number)

    def run(self, shim: Shim, signals: Signals) -> int:
        """Carry until the process has ended and its output is written; return its exit status."""
        self._shim = shim
        self._signals = signals
        while self._shim.exit_status is None:
            self._step(ended=False)
        while self._output:
            self._step(ended=True)
        return self._shim.exit_status

    def _step(self, ended: bool) -> None:
        poll = select.poll()
        for descriptor, events in self._waits(ended).items():
            poll.register(descriptor, events)
        connection = self._shim.fileno()
        for descriptor, events in poll.poll():
            if descriptor == self._signals.fileno():
                for number in self._signals.take():
                    self.on_signal(number)
            elif descriptor == connection:
                self._serve_connection(events)
            elif descriptor == self._source:
                self._read_source(descriptor)
            else:
                self._write_output()

    def _waits(self, ended: bool) -> dict[int, int]:
        """Return what to wait for, by descriptor."""
        waits = {self._signals.fileno(): select.POLLIN}
        if self._output:
            waits[self._output[0][0]] = select.POLLOUT
        if ended:
            return waits
        wanted = 0
        if self._backlog_bytes < BACKLOG_BYTES:
            wanted |= select.POLLIN
        if self._to_forward or self._input is not None:
            wanted |= select.POLLOUT
        if wanted:  # an end would be told again and again
            waits[self._shim.fileno()] = wanted
        if self._source is not None and self._input is None:
            waits[self._source] = select.POLLIN
        return waits

    def _serve_connection(self, events: int) -> None:
        if events & ~select.POLLOUT:
            self._shim.read_at_hand()
        if events & select.POLLOUT and self._shim.exit_status is None:
            if self._to_forward:
                self._send_signal(self._to_forward.popleft())
            elif self._input is not None:
                data, self._input = self._input, None
                with suppress(BrokenPipeError):  # the process has just ended
                    self._shim.send_stdin(data)

    def _send_signal(self, number: int) -> None:
        if number != signal.SIGWINCH:
            self._shim.post_signal(number, self.on_refusal)
        elif self.size:
            columns, rows = self.size()
            if columns and rows:
                self._shim.post_size(columns, rows, self.on_refusal)

    def _read_source(self, source: int) -> None:
        try:
            with unstopped(signal.SIGTTIN):
                self._input = os.read(source, STDIN_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._input = b""  # a terminal that is gone, or another program's
        if not self._input:
            self._source = None

    def _write_output(self) -> None:
        target, data = self._output.popleft()
        try:
            written = os.write(target, data[: _piece_bytes(target)])
        except BlockingIOError:
            written = 0
        except OSError as error:
            self._give_up(target, error)
            return
        self._backlog_bytes -= written
        if written < len(data):
            self._output.appendleft((target, data[written:]))

    def _give_up(self, target: int, error: OSError) -> None:
        """Let nothing more go there, which can never come back."""
        if not self._lossy and error.errno != errno.EIO:  # EIO: a terminal that is gone
            if isinstance(error, BrokenPipeError):
                raise error
            raise StartError(f"the output cannot be written: {error.strerror}") from None
        self._dead.add(target)
        self._output = deque(each for each in self._output if each[0] != target)
        self._backlog_bytes = sum(len(data) for _, data in self._output)


def _piece_bytes(target: int) -> int | None:
    mode = os.fstat(target).st_mode
    if stat.S_ISREG(mode):
        return None
    return TERMINAL_BYTES if stat.S_ISCHR(mode) and os.isatty(target) else PIPE_BYTES
