"""cc-proxy shim: be the shim of one process, in the place of cc-shim.

Usage:
  cc-proxy shim [options]

Connects to the proxy with a token and stands for the process that the runtime
starts with it: stdin, stdout, stderr, the terminal's size and signals travel
between here and there, and the process's exit status becomes the shim's.  Under
the name cc-shim the whole program is this command.

Options:
  -c ID --container-id ID            The container's id, for messages (required).
  -t TOKEN --token TOKEN             The token that the proxy gave the runtime (required).
  -u URI --uri URI                   The proxy's socket, like unix:///run/x/proxy.sock.
  --socket-path PATH                 The same as a path
                                     [default: /run/clear-containers/proxy.sock].
  -r S --reconnect-timeout S         How many seconds to try to connect again when the
                                     proxy is lost; 0 is the default, too [default: 10].
  -d --debug                         Say on stderr what happens.
  -v --version                       Print version and commit.
  -h --help                          Print this help.

A terminal at stdin is in raw mode until the shim ends, in whatever way.  All
signals are passed on but for SIGKILL and SIGSTOP, which nobody can catch, those
of the shim's own faults (ILL, BUS, FPE, SEGV, SYS), and PIPE.  When the shim is
killed with SIGKILL, its process is, too.  The agents cannot signal a process
that was started with execcmd; there only the size of the terminal gets through.

Exit status: the process's; 1 if there is no proxy, or no longer, or it does not
know the token; 2 for a wrong command line; 128 and the signal's number if HUP, INT,
QUIT or TERM came before the proxy had answered, or while it was away.
"""

from __future__ import annotations

import os
import signal
import sys
import termios
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from ccproxy_lib.client.carrier import Carrier
from ccproxy_lib.client.shim import DEFAULT_RECONNECT_S, Shim
from ccproxy_lib.client.signals import Signals
from ccproxy_lib.client.terminal import raw_mode, restore, window_size
from ccproxy_lib.errors import ProxyError, StartError, UsageError
from ccproxy_lib.front.arguments import parse, seconds
from ccproxy_lib.front.last_will import LastWill
from ccproxy_lib.front.views.safe import plain

STDIN = 0
CONNECT_TIMEOUT_S = 30.0
# What the protocol can carry, without what stops us or means a fault of our own.
FORWARDED = frozenset(range(1, 31)) - {
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGILL,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGSEGV,
    signal.SIGPIPE,
}
# What ends the shim itself while there is nobody to pass it on to.
ENDING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})
# How long the shim before may take to be missed by the proxy.
KILL_ATTEMPTS = 30
KILL_PAUSE_S = 0.1


class _Ended(Exception):
    def __init__(self, number: int) -> None:
        self.number = number


def main(arguments: Sequence[str]) -> int:
    """Run the shim; return the process's exit status."""
    options = parse(__doc__, arguments)
    if options is None:
        return 0
    if options["--version"]:
        from ccproxy_lib.version import version_line

        print(version_line())
        return 0
    for name in ("--container-id", "--token"):
        if not options[name]:
            raise UsageError(f"the shim needs {name}: see 'cc-proxy shim --help'")
    try:
        return _Command(options).run()
    except ProxyError as error:
        raise StartError(f"shim of {options['--container-id']}: {error}") from None
    except _Ended as end:
        name = signal.Signals(end.number).name
        print(f"cc-proxy: shim: {name} while the proxy was away", file=sys.stderr)
        return 128 + end.number


class _Command:
    def __init__(self, options: dict[str, Any]) -> None:
        self._address: str = options["--uri"] or options["--socket-path"]
        self._token: str = options["--token"]
        reconnect_s = seconds(options["--reconnect-timeout"], "--reconnect-timeout")
        self._reconnect_s = reconnect_s or DEFAULT_RECONNECT_S  # as cc-shim has it
        self._debug: bool = options["--debug"]
        self._modes = termios.tcgetattr(STDIN) if os.isatty(STDIN) else None

    def run(self) -> int:
        """Carry the session to its end; return the process's exit status."""
        with ExitStack() as stack:
            self._signals = stack.enter_context(Signals(FORWARDED))
            stack.enter_context(LastWill(self._kill))
            self._carrier = Carrier(STDIN, lossy=True)
            self._carrier.on_signal = self._forward
            self._carrier.on_refusal = lambda text: self._say(f"not delivered: {text}")
            shim = stack.enter_context(
                Shim(
                    self._address,
                    self._token,
                    timeout_s=CONNECT_TIMEOUT_S,
                    reconnect_s=self._reconnect_s,
                    attend=self._attend,
                    sink=self._carrier.keep,
                    tell=self._say,
                )
            )
            self._say("connected")
            if self._modes:
                self._enter_raw = stack.enter_context(raw_mode(STDIN))
                self._carrier.size = partial(window_size, STDIN)
            self._carrier.forward(signal.SIGWINCH)
            status = self._carrier.run(shim, self._signals)
            self._say(f"exit status {status}")
        return status

    def _forward(self, number: int) -> None:
        self._say(f"signal {number}")
        if number == signal.SIGCONT and self._modes:
            self._enter_raw()
        self._carrier.forward(number)

    def _attend(self, descriptor: int | None, duration_s: float) -> None:
        """Wait for the proxy.

        What can be read goes first: it may be the answer by which the process is
        ours, and then the signals that wait are for that.
        """
        if self._signals.wait(duration_s, descriptor):
            for number in self._signals.take():
                if number in ENDING:
                    raise _Ended(number)
                self._carrier.forward(number)

    def _say(self, text: str) -> None:
        if self._debug:
            # In raw mode a line feed does not go back to the left.
            end = "\r\n" if self._modes else "\n"
            with suppress(OSError):  # the process is worth more than what we say
                print(f"cc-proxy: shim: {plain(text)}", end=end, file=sys.stderr)

    def _kill(self) -> None:
        """Do in the shim's place what it cannot: it was killed, and its process must be."""
        if self._modes:
            with suppress(termios.error):
                restore(STDIN, self._modes)
        for _ in range(KILL_ATTEMPTS):
            with suppress(ProxyError), Shim(self._address, self._token, reconnect_s=0) as shim:
                shim.signal(signal.SIGKILL)
                shim.disconnect()
                return
            time.sleep(KILL_PAUSE_S)
