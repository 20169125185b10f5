"""cc-proxy top: what a running daemon does, live.

Usage:
  cc-proxy top [options]

Shows the daemon, its VMs and their sessions with what they move per second, as
'cc-proxy status' shows them.  What is stuck or busy stands first.  The keys q
and Ctrl-C end it.

Options:
  --interval S        Seconds between two looks, 0.1 to 3600 [default: 1].
  --once              Look twice, print the second picture and end; for this the
                      output may be anything.
  --socket-path PATH  The daemon's socket
                      [default: /run/clear-containers/proxy.sock].
  -h --help           Print this help.

Exit status: 0 when it was told to end, 1 if the daemon goes away or does not
answer, 2 for wrong arguments.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

from rich.text import Text

from ccproxy_lib.client import Client
from ccproxy_lib.errors import UsageError
from ccproxy_lib.front.arguments import parse
from ccproxy_lib.front.views import figures, output
from ccproxy_lib.front.views.answer import Members
from ccproxy_lib.front.views.asking import plain_errors
from ccproxy_lib.front.views.columns import cut
from ccproxy_lib.front.views.picture import WARNING, Frame, picture
from ccproxy_lib.front.views.poller import Poller
from ccproxy_lib.front.views.rates import Change
from ccproxy_lib.front.views.screen import Screen

SHORTEST_S = 0.1
LONGEST_S = 3600.0
QUIT = frozenset(b"qQ")
_FOOTER_LINES = 1
# How late an answer may be before that is told.
_LATE_S = 1.0


def main(arguments: Sequence[str]) -> int:
    """Show what the daemon does; raises ProxyError when it cannot be asked any more."""
    options = parse(__doc__, arguments)
    if options is None:
        return 0
    interval_s = _interval(options["--interval"])
    terminal = output.prepare()
    if not options["--once"] and (not terminal or output.unable()):
        raise UsageError("top needs a terminal to draw on: use top --once, or status")
    with plain_errors(), Client(options["--socket-path"]) as client:
        if options["--once"]:
            return _once(client, interval_s)
        return _watch(client, interval_s)


def _interval(text: str) -> float:
    try:
        interval_s = float(text)
    except ValueError:
        interval_s = 0.0
    if not SHORTEST_S <= interval_s <= LONGEST_S:
        raise UsageError(
            f"flag --interval needs seconds, {SHORTEST_S:g} to {LONGEST_S:g}, got '{text}'"
        )
    return interval_s


def _once(client: Client, interval_s: float) -> int:
    before = client.status()
    time.sleep(interval_s)
    now = client.status()
    output.write(picture(now, output.frame(False, ""), Change(before, now)))
    return 0


def _watch(client: Client, interval_s: float) -> int:
    # The first answer comes before the screen is taken: most errors show here.
    status: Members = client.status()
    change = Change(None, status)
    with Screen() as screen, Poller(client, interval_s, screen.nudge) as poller:
        while True:
            _show(screen, status, change, poller, interval_s)
            keys, signals = screen.wait(interval_s)
            if QUIT.intersection(keys) or signal.SIGINT in signals:
                return 0
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                if number in signals:
                    return 128 + number
            if signal.SIGTSTP in signals:
                screen.suspend()
            if (answer := poller.take()) is not None:
                status, change = answer, Change(status, answer)


def _show(
    screen: Screen, status: Members, change: Change, poller: Poller, interval_s: float
) -> None:
    width, height = screen.size
    lines = picture(status, Frame(width, max(height - _FOOTER_LINES, 0)), change)
    lines += [Text()] * (height - _FOOTER_LINES - len(lines))
    late_s = poller.silent_s - interval_s
    if late_s > _LATE_S:
        footer = f"no answer for {figures.span(late_s)}  q quits"
    else:
        footer = f"every {interval_s:g} s  q quits"
    style = WARNING if late_s > _LATE_S else "dim"
    screen.show([*lines, Text(cut(footer, width), style=style)])
