"""The flags of the HTTP endpoint for metrics and debugging."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ccproxy_lib.errors import UsageError
from ccproxy_lib.front.settings import Pprof
from ccproxy_lib.host.listener import path_of_uri

# As in the Go daemon.
DEFAULT_HOST = "localhost"
DEFAULT_PORT = "6060"
MAX_PORT = 65535

# Whether each flag takes a value.
PPROF_FLAGS = {
    "pprof": False,
    "pprof-host": True,
    "pprof-port": True,
    "pprof-socket": True,
}


def parse_pprof(given: Mapping[str, str | None]) -> Pprof | None:
    """Return where the endpoint is wanted, if it is; UsageError for a bad value, even if not."""
    host = given["--pprof-host"] or DEFAULT_HOST
    path = given["--pprof-socket"] or (path_of_uri(host) if "://" in host else None)
    port = _port(given["--pprof-port"] or DEFAULT_PORT)
    return Pprof(path, host, port) if given["--pprof"] else None


def _port(text: str) -> int:
    if not (re.fullmatch("[0-9]{1,9}", text) and int(text) <= MAX_PORT):
        raise UsageError(f"flag -pprof-port needs a number from 0 to {MAX_PORT}, got '{text}'")
    return int(text)
