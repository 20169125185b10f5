"""What the command line comes to."""

from typing import NamedTuple

from ccproxy_lib.state.ksm import Mode
from ccproxy_lib.state.limits import Limits


class Pprof(NamedTuple):
    """Where the HTTP endpoint for debugging is: at ``path``, or else at ``host`` and ``port``."""

    path: str | None
    host: str
    port: int


class Settings(NamedTuple):
    """All that a daemon can be told.

    ``path`` is None where nobody has named a socket, ``log_format`` where nobody has
    said how the log should look, ``pprof`` where nobody wants the endpoint.
    """

    path: str | None
    pod: bool
    daemonize: bool
    pid_file: str | None
    log_level: int
    log_format: str | None
    ksm_mode: Mode
    ksm_root: str
    limits: Limits
    pprof: Pprof | None = None
