"""Command line of the sandbox agent; its start and its end."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from typing import NamedTuple

from docopt import DocoptExit, docopt

from ccproxy_lib.errors import StartError, UsageError
from ccproxy_lib.front.sandbox import descendants
from ccproxy_lib.front.sandbox.agent import Agent
from ccproxy_lib.front.sandbox.life import Life
from ccproxy_lib.front.sandbox.listener import Listener
from ccproxy_lib.front.sandbox.port import CONTROL, IO, GuestPort
from ccproxy_lib.wire import ctl, tty
from ccproxy_lib.wire.ctl import Code

USAGE = """An agent in the place of a VM, for trying and testing: it isolates nothing.

Commands that come over its sockets run as processes of this host, as this user.

Usage:
  ccproxy.py agent [options] CTL_SOCKET IO_SOCKET

Options:
  --strict-json       Refuse JSON members that old agents don't know.
  --next              Send NEXT messages before answers, as the C agent does.
  --output-bytes N    Largest data of one output message [default: 1024].
  --quiet             Print errors only.
  -h --help           Print this text.

Exit status: 0 after destroypod, 1 if it cannot start, 2 for a wrong command line,
70 where a real agent would power its VM off, 128 and the number of the signal that ended it.
"""

START_FAILED_STATUS = 1
USAGE_STATUS = 2
_MOST_OUTPUT_BYTES = tty.DEFAULT_MAX_MESSAGE_BYTES - tty.HEADER_BYTES

log = logging.getLogger(__name__)


class Options(NamedTuple):
    """The command line."""

    ctl_socket: str
    io_socket: str
    strict_json: bool
    next: bool
    output_bytes: int
    quiet: bool


def main(argv: list[str]) -> int:
    """Run the agent with the arguments ``agent [options] CTL_SOCKET IO_SOCKET``.

    Returns the exit status once everything that it started is gone.
    """
    try:
        options = _parse(argv)
    except (DocoptExit, UsageError) as error:
        print(error, file=sys.stderr)
        return USAGE_STATUS
    except SystemExit:  # docopt has printed the help
        return 0
    logging.basicConfig(
        format="%(message)s", level=logging.ERROR if options.quiet else logging.INFO
    )
    try:
        return _run(options)
    except StartError as error:
        log.error("%s", error)
        return START_FAILED_STATUS


def _parse(argv: list[str]) -> Options:
    args = docopt(USAGE, argv)
    output_bytes = args["--output-bytes"]
    if not output_bytes.isdecimal() or not 1 <= int(output_bytes) <= _MOST_OUTPUT_BYTES:
        raise UsageError(f"--output-bytes must be a number from 1 to {_MOST_OUTPUT_BYTES}")
    return Options(
        ctl_socket=args["CTL_SOCKET"],
        io_socket=args["IO_SOCKET"],
        strict_json=args["--strict-json"],
        next=args["--next"],
        output_bytes=int(output_bytes),
        quiet=args["--quiet"],
    )


def _run(options: Options) -> int:
    def say_next(read_bytes: int) -> None:
        if options.next:
            control.send(ctl.encode(Code.NEXT, read_bytes.to_bytes(4, "big")))

    log.info("sandbox agent: for trying and testing, it isolates nothing from this host")
    with ExitStack() as at_the_end:
        listeners = []
        for path in (options.ctl_socket, options.io_socket):
            listeners.append(Listener(path))
            at_the_end.callback(listeners[-1].remove)
        control = GuestPort(CONTROL, listeners[0].socket, say_next)
        io = GuestPort(IO, listeners[1].socket)
        at_the_end.callback(control.close)
        at_the_end.callback(io.close)
        descendants.adopt_orphans()
        at_the_end.callback(descendants.kill_all)
        life = Life()
        agent = Agent(life, control, io, options.output_bytes, options.strict_json)
        for job in (control.serve, io.serve, agent.obey, agent.deliver):
            life.spawn(job)
        for listener in listeners:
            listener.publish()
        log.info("ready: %s %s", options.ctl_socket, options.io_socket)
        return life.wait()
