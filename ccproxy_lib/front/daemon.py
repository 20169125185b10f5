"""cc-proxy: passes commands and streams between runtimes, shims and the agents in VMs.

Usage:
  cc-proxy [options]
  cc-proxy demo [--] [COMMAND...]
  cc-proxy agent [options] CTL_SOCKET IO_SOCKET

The daemon serves many VMs on one socket, or with -uri a single one, and then
ends with it.  'demo' shows it at work on this host; 'agent' is the agent that
the demo uses in the place of a VM (see 'cc-proxy agent --help').

Options:
  --log LEVEL         What to log: debug, info, warn, error, fatal or panic
                      (default: $CC_PROXY_LOG_LEVEL, or warn).
  --uri URI           Serve one VM on this socket, like unix:///run/x/proxy.sock,
                      and end after UnregisterVM.
  --socket-path PATH  Listen on this socket, whatever else is said
                      (default: /run/clear-containers/proxy.sock).
  --version           Print version and commit.
  --help              Print this help.

Each option may be written -x VALUE, -x=VALUE, --x VALUE or --x=VALUE.
Exit status: 0 after an orderly end, 1 if the daemon cannot start, 2 for an
unknown flag or a bad value.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from docopt import docopt

from ccproxy_lib.front.goflags import normalize
from ccproxy_lib.host import logs
from ccproxy_lib.host.listener import DEFAULT_PATH, Listener, path_of_uri
from ccproxy_lib.service.server import Daemon
from ccproxy_lib.state.limits import Limits

LEVEL_VARIABLE = "CC_PROXY_LOG_LEVEL"
DEFAULT_LEVEL = "warn"

# Whether each flag takes a value.
FLAGS = {
    "log": True,
    "uri": True,
    "socket-path": True,
    "version": False,
    "help": False,
    "h": False,
}


def main(arguments: Sequence[str]) -> int:
    """Run the daemon until it is told to stop; raises UsageError and StartError."""
    normal = ["--help" if flag == "--h" else flag for flag in normalize(arguments, FLAGS)]
    options = docopt(__doc__, normal, default_help=False)
    if options["--help"]:
        print(__doc__.strip())
        return 0
    logs.set_up(_level(options["--log"]))
    Daemon(Listener(_path(options)), Limits(), pod=options["--uri"] is not None).run()
    return 0


def _level(flag: str | None) -> int:
    """The flag wins over the environment."""
    return logs.parse_level(flag or os.environ.get(LEVEL_VARIABLE) or DEFAULT_LEVEL)


def _path(options: dict[str, str | None]) -> str:
    path = options["--socket-path"]
    uri = options["--uri"]
    uri_path = path_of_uri(uri) if uri is not None else None
    return path or uri_path or DEFAULT_PATH
