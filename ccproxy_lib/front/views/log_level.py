"""cc-proxy log-level: say what a running daemon logs.

Usage:
  cc-proxy log-level [options] LEVEL

LEVEL is debug, info, warn, error, fatal or panic.  It holds until the daemon
ends or is told otherwise.

Options:
  --container ID      Only raise the level for what concerns this VM or
                      container; the level 'default' takes that back.
  --socket-path PATH  The daemon's socket
                      [default: /run/clear-containers/proxy.sock].
  -h --help           Print this help.

Exit status: 0 when it is done, 1 if the daemon does not do it, 2 for wrong
arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

from ccproxy_lib.client import Client
from ccproxy_lib.errors import UsageError
from ccproxy_lib.front.arguments import parse
from ccproxy_lib.front.views.asking import plain_errors
from ccproxy_lib.host.logs import name_of, parse_level

DEFAULT = "default"


def main(arguments: Sequence[str]) -> int:
    """Set the level; raises UsageError for one that does not exist."""
    options = parse(__doc__, arguments)
    if options is None:
        return 0
    level, container = options["LEVEL"].lower(), options["--container"]
    if level != DEFAULT:
        level = name_of(parse_level(level))
    elif container is None:
        raise UsageError("the level 'default' is for --container ID only: name a level")
    with plain_errors(), Client(options["--socket-path"]) as client:
        client.log_control(level, container)
    return 0
