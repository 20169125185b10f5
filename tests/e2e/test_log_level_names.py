"""cc-proxy log-level takes each name that -log takes."""

from __future__ import annotations

from ccproxy_lib.client import Client
from ccproxy_lib.front.views import log_level
from ccproxy_lib.host.logs import LEVELS

# What the daemon calls those that have a second name.
CALLED = {"warning": "warn", "panic": "fatal", "0": "warn", "1": "info", "2": "debug"}


def test_each_level_can_be_set_while_the_daemon_runs(daemon):
    with Client(daemon.path) as client:
        try:
            for level in [*LEVELS, "Debug"]:
                assert log_level.main(["log-level", "--socket-path", daemon.path, level]) == 0
                assert client.status()["logLevel"] == CALLED.get(level, level.lower())
        finally:
            client.log_control("debug")
