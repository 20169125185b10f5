"""cc-proxy exec: run a command in a VM.

Usage:
  cc-proxy exec [options] [--env VAR]... [--] VM [--] COMMAND...
  cc-proxy exec --help

Attaches to a registered VM, starts COMMAND in a container there, and is its
shim: stdin, stdout and stderr are the command's.  Options may stand before or
behind VM; what stands behind COMMAND is its own.  A VM or COMMAND that begins
with - stands behind --, and all options before that.

Options:
  -t --terminal        Give the command a terminal of this one's size; Ctrl-C and all
                       other keys are then for the command.
  --container ID       The container (default: the VM's first one that runs).
  -e VAR --env VAR     Set a variable, NAME=VALUE; may be given more than once.
  --cwd WHERE          Where the command starts [default: /].
  --socket-path PATH   The proxy's socket [default: /run/clear-containers/proxy.sock].
  -h --help            Print this help.

The agents cannot signal a process that is started this way.  So SIGINT, SIGTERM,
SIGHUP and SIGQUIT end 'exec' itself: the command gets the end of its stdin and
may go on.

Exit status: the command's; 125 if it could not be run or the proxy is lost; 2 for
a wrong command line; 128 and the signal's number if one ended 'exec'.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from ccproxy_lib.client import Client, ProxyError, Shim
from ccproxy_lib.client.carrier import Carrier
from ccproxy_lib.client.signals import Signals
from ccproxy_lib.client.terminal import raw_mode, window_size
from ccproxy_lib.errors import UsageError
from ccproxy_lib.front.arguments import parse
from ccproxy_lib.front.views import answer
from ccproxy_lib.front.views.safe import plain

STDIN = 0
EXIT_NOT_RUN = 125
ENDING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})
# How long to try to tell a proxy that takes nothing that we go.
LEAVE_MS = 500
# The same where the VM has been taken out.
BEHIND_VM = __doc__.replace("[--] VM [--]", "[--]", 1)


class _Ended(Exception):
    def __init__(self, number: int) -> None:
        self.number = number


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    options = _parse(arguments)
    if options is None:
        return 0
    process = _process(options)
    try:
        return _run(options, process)
    except ProxyError as error:
        print(f"cc-proxy: exec: {plain(error)}", file=sys.stderr)
        return EXIT_NOT_RUN
    except _Ended as end:
        print("cc-proxy: exec: interrupted; the command may go on", file=sys.stderr)
        return 128 + end.number


def _parse(arguments: Sequence[str]) -> dict[str, Any] | None:
    options = parse(__doc__, arguments, options_first=True)
    if options is None:
        return None
    tail = options["COMMAND"]
    if tail[0].startswith("-") and not options["--"]:
        # docopt takes all behind the first argument for arguments, so take that one out.
        head = arguments[: len(arguments) - len(tail) - 1]
        rest = parse(BEHIND_VM, [*head, *tail], options_first=True)
        return rest and rest | {"VM": options["VM"]}
    return options


def _process(options: dict[str, Any]) -> dict[str, Any]:
    """Return the process member of execcmd."""
    environment = []
    for variable in options["--env"]:
        name, equals, value = variable.partition("=")
        if not (name and equals):
            raise UsageError(f"option --env needs NAME=VALUE, got '{variable}'")
        environment.append({"env": name, "value": value})
    terminal = bool(options["--terminal"])
    if terminal and "TERM" in os.environ:
        environment.insert(0, {"env": "TERM", "value": os.environ["TERM"]})
    return {
        "args": options["COMMAND"],
        "envs": environment,
        "workdir": options["--cwd"],
        "terminal": terminal,
    }


def _run(options: dict[str, Any], process: dict[str, Any]) -> int:
    address, vm_id = options["--socket-path"], options["VM"]
    carrier = Carrier(STDIN)
    with ExitStack() as stack:
        signals = stack.enter_context(Signals(ENDING | {signal.SIGCONT, signal.SIGWINCH}))
        attend = partial(_attend, signals)
        runtime = stack.enter_context(Client(address, attend=attend))
        runtime.attach_vm(vm_id)
        container = options["--container"] or _container(runtime, vm_id)
        (token,) = runtime.attach_vm(vm_id, 1)
        shim = stack.enter_context(
            Shim(address, token, reconnect_s=0, sink=carrier.keep, attend=attend)
        )
        try:
            runtime.hyper("execcmd", {"container": container, "process": process}, token)
            runtime.close()
            return _carry(carrier, shim, signals, process["terminal"])
        except BaseException:
            _leave(shim)
            raise


def _attend(signals: Signals, descriptor: int | None, duration_s: float) -> None:
    """Wait for the proxy."""
    if signals.wait(duration_s, descriptor):
        for number in signals.take():
            _end_if_told(number)


def _end_if_told(number: int) -> None:
    if number in ENDING:
        raise _Ended(number)


def _carry(carrier: Carrier, shim: Shim, signals: Signals, terminal: bool) -> int:
    with ExitStack() as stack:
        if terminal and os.isatty(STDIN):
            enter_raw = stack.enter_context(raw_mode(STDIN))
            carrier.size = partial(window_size, STDIN)

        def act(number: int) -> None:
            _end_if_told(number)
            if number == signal.SIGCONT and carrier.size:
                enter_raw()
            elif number == signal.SIGWINCH:
                carrier.forward(number)

        carrier.on_signal = act
        carrier.forward(signal.SIGWINCH)
        return carrier.run(shim, signals)


def _leave(shim: Shim) -> None:
    """Let a command that reads its stdin come to its end; nobody wants its output any more.

    A session that were left behind would keep that for the next shim.
    """
    poll = select.poll()
    poll.register(shim, select.POLLOUT)
    if poll.poll(LEAVE_MS):  # then both frames fit
        with suppress(ProxyError, BrokenPipeError):
            shim.send_stdin(b"")
        shim.disconnect()


def _container(runtime: Client, vm_id: str) -> str:
    """Return the VM's first container that runs; ProxyError if there is none."""
    try:
        status = runtime.status(vm_id)
    except ProxyError as error:
        raise ProxyError(f"give --container, as the proxy does not tell it: {error}") from None
    containers = [
        session
        for vm in answer.vms(status)
        for session in answer.sessions(vm)
        if not session.get("exec") and session.get("state") in ("running", "detached")
    ]
    if not containers:
        raise ProxyError(f"no container runs in VM {vm_id}")
    oldest = max(containers, key=lambda session: answer.amount(session, "ageSeconds"))
    return str(oldest.get("container"))
