"""cc-proxy status: what a running daemon has, and what is stuck.

Usage:
  cc-proxy status [options] [--] [VM]

Shows the daemon, its VMs and their sessions, or one VM.  What is stuck or busy
stands first.  On a terminal the picture fits; into a pipe or a file everything
is written, a line for each VM and each session, with whole ids.  A VM whose id
begins with - stands behind --.

Options:
  --all               Do not cut the picture to the terminal's height.
  --json              Print the daemon's answer as it is, a JSON object.
  --socket-path PATH  The daemon's socket
                      [default: /run/clear-containers/proxy.sock].
  -h --help           Print this help.

Columns: IN are bytes to processes, OUT from them; BUFFER is what waits for a
shim, SPOOL the part of it that is in files; AGENT is how long the agent has
owed an answer, QUEUE how many commands wait behind it; FOR is how long a session
has been in its state; UNREAD is input that its process has not read.

Exit status: 0 with an answer, 1 without, 2 for wrong arguments.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ccproxy_lib.client import Client
from ccproxy_lib.front.arguments import parse
from ccproxy_lib.front.views.asking import plain_errors

HINT = "; use --all or a pipe"


def main(arguments: Sequence[str]) -> int:
    """Print what the daemon has; raises ProxyError without an answer."""
    options = parse(__doc__, arguments)
    if options is None:
        return 0
    with plain_errors(), Client(options["--socket-path"]) as client:
        status = client.status(options["VM"])
    if options["--json"]:
        print(json.dumps(status))
        return 0
    from ccproxy_lib.front.views import output
    from ccproxy_lib.front.views.picture import picture

    output.prepare()
    frame = output.frame(options["--all"], HINT)
    output.write(picture(status, frame, whole=options["VM"] is None))
    return 0
