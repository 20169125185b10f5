"""cc-proxy events: follow what happens in a running daemon.

Usage:
  cc-proxy events [options] [--] [VM]

Prints a line for each VM, process and shim that comes or goes, and for what
agents report, of all VMs or of one: the local time, the event, the VM, the rest.
A VM whose id begins with - stands behind --.

Options:
  --json              Print each event as the daemon gives it, a JSON object
                      on a line of its own.
  --socket-path PATH  The daemon's socket
                      [default: /run/clear-containers/proxy.sock].
  -h --help           Print this help.

The line 'dropped' tells how many events were lost because they were not read.

It ends when nobody reads its output any more.

Exit status: 0 after Ctrl-C, 1 if the daemon goes away or does not answer, 2 for
wrong arguments, 141 if nobody reads the output any more.
"""

from __future__ import annotations

import json
import select
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime

from ccproxy_lib.client.connection import Attend, Connection
from ccproxy_lib.client.deadline import Deadline
from ccproxy_lib.client.decoding import decode
from ccproxy_lib.client.signals import Signals
from ccproxy_lib.errors import ProxyError
from ccproxy_lib.front.arguments import parse
from ccproxy_lib.front.views import answer
from ccproxy_lib.front.views.answer import Members
from ccproxy_lib.front.views.asking import plain_errors
from ccproxy_lib.front.views.safe import ELLIPSIS, plain
from ccproxy_lib.wire.frames import Command, Frame, Notification, Type

# An agent's event may have 64 KiB; --json has all of it.
MOST_CHARACTERS = 200
_SHOWN_APART = frozenset({"event", "time", "vm"})
_AMBIGUOUS = frozenset(' "=\\\n\t')
_EVENT_WIDTH = len("shim-disconnected")


def main(arguments: Sequence[str]) -> int:
    """Print events until Ctrl-C; raises ProxyError when there will be no more."""
    options = parse(__doc__, arguments)
    if options is None:
        return 0
    # An id or an ellipsis that the output's encoding lacks must not be the end.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with plain_errors(), Signals(()) as signals:
            for event in follow(options["--socket-path"], options["VM"], attended(signals)):
                print(json.dumps(event) if options["--json"] else line(event), flush=True)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
    return 0


def attended(signals: Signals) -> Attend:
    """Return a way to wait that a signal also ends if it comes just before the wait.

    It raises BrokenPipeError when nobody can read the output any more.
    """
    output = sys.stdout.fileno()

    def attend(descriptor: int | None, duration_s: float) -> None:
        poll = select.poll()
        poll.register(output, 0)  # its end is reported unasked
        for readable in (signals, descriptor):
            if readable is not None:
                poll.register(readable, select.POLLIN)
        if output in dict(poll.poll(duration_s * 1000)):
            raise BrokenPipeError

    return attend


def follow(path: str, vm: str | None, attend: Attend) -> Iterator[Members]:
    """Yield events as the daemon gives them, what this program does not know included.

    It reads no more than is taken: of what waits the daemon takes care.
    """
    waiting: deque[Frame] = deque()
    with Connection(path, take=waiting.append, attend=attend) as connection:
        wanted = {} if vm is None else {"containerId": vm}
        connection.call(Command.SUBSCRIBE, json.dumps(wanted).encode())
        while True:
            connection.wait(lambda: bool(waiting), Deadline(None))
            frame = waiting.popleft()
            if frame.type == Type.NOTIFICATION and frame.opcode == Notification.EVENT:
                yield _parsed(frame)


def _parsed(frame: Frame) -> Members:
    try:
        return dict(decode(bytes(frame.payload)))
    except (ValueError, TypeError):
        raise ProxyError("the proxy sent what is no event") from None


def line(event: Members) -> str:
    """Return an event as one line, safe for a terminal."""
    rest = (f"{plain(name)}={_value(event[name])}" for name in event if name not in _SHOWN_APART)
    shown = (
        _local_time(answer.amount(event, "time")),
        answer.text(event, "event").ljust(_EVENT_WIDTH),
        answer.text(event, "vm") or "-",
        *rest,
    )
    return "  ".join(shown)


def _local_time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).isoformat(" ", "milliseconds")
    except (OverflowError, ValueError, OSError):
        return "-"


def _value(value: object) -> str:
    """Return a value, quoted where it could be taken for more than one."""
    text = value if isinstance(value, str) else json.dumps(value)
    cut = text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + ELLIPSIS
    if isinstance(value, str) and (not text or _AMBIGUOUS.intersection(text)):
        cut = '"' + cut.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return plain(cut)
