"""cc-proxy hyper: send a command to the agent of a VM and print its answer.

Usage:
  cc-proxy hyper [options] [--] VM NAME [JSON]
  cc-proxy hyper --help

NAME is a command of the agent, like ping, pscontainer or version, and JSON its
data, which reaches the agent as it is.  For example:

  cc-proxy hyper vm1 pscontainer '{"container":"c1"}'

A VM whose id begins with - stands behind --, and all options before that.

Options:
  --json               Print one line of JSON in any case: an answer that is no JSON
                       as a string, an empty one as null.
  --timeout S          How many seconds to wait for the answer [default: 90].
  --socket-path PATH   The proxy's socket [default: /run/clear-containers/proxy.sock].
  -h --help            Print this help.

On a terminal JSON is laid out for people; otherwise the answer is printed byte
by byte.  An empty one prints nothing.

Exit status: 0 if the agent has done it, 1 if it refuses or the proxy does or is
not there, 2 for a wrong command line or JSON that is none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from ccproxy_lib.client import Client, ProxyError
from ccproxy_lib.errors import StartError, UsageError
from ccproxy_lib.front.arguments import parse, seconds


def main(arguments: Sequence[str]) -> int:
    """Send the command and print its answer."""
    options = parse(__doc__, arguments)
    if options is None:
        return 0
    data = _data(options["JSON"])
    timeout_s = seconds(options["--timeout"], "--timeout")
    try:
        with Client(options["--socket-path"], timeout_s) as client:
            client.attach_vm(options["VM"])
            answer = client.hyper(options["NAME"], data)
    except ProxyError as error:
        raise StartError(f"hyper: {error}") from None
    if options["--json"]:
        print(_one_line(answer))
    elif sys.stdout.isatty():
        print(_for_people(answer), end="")
    else:
        sys.stdout.buffer.write(answer)
    return 0


def _data(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the data of the command is no JSON: {error}") from None
    return text.encode("utf-8", "surrogateescape")


def _one_line(answer: bytes) -> str:
    if not answer:
        return "null"
    try:
        return json.dumps(json.loads(answer), allow_nan=False)
    except (ValueError, RecursionError):
        return json.dumps(answer.decode("utf-8", "backslashreplace"))


def _for_people(answer: bytes) -> str:
    """Return lines that do nothing to a terminal but show."""
    if not answer:
        return ""
    try:
        return json.dumps(json.loads(answer), indent=2) + "\n"
    except (ValueError, RecursionError):
        return repr(answer)[2:-1] + "\n"
