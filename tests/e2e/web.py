"""Asking the daemon's HTTP endpoint, over TCP or a Unix socket."""

from __future__ import annotations

import http.client
import json
import re
import socket
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.harness import PATIENCE_S, Daemon, wait_until


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str


class Web:
    """The endpoint at ``address``, which is (host, port) or a path."""

    def __init__(self, address: tuple[str, int] | str):
        self.address = address

    def connect(self) -> socket.socket:
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        connected = socket.socket(family)
        connected.settimeout(PATIENCE_S)
        connected.connect(self.address)
        return connected

    def connection(self) -> http.client.HTTPConnection:
        """A connection that may be used for several requests."""
        host, port = ("localhost", 80) if isinstance(self.address, str) else self.address
        connection = http.client.HTTPConnection(host, port)
        connection.sock = self.connect()
        return connection

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers) -> Answer:
        """Ask once; underscores in the headers' names stand for hyphens."""
        connection = self.connection()
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return ask(connection, path, method, body, named)
        finally:
            connection.close()

    def get(self, path: str) -> str:
        answer = self.ask(path)
        assert answer.status == 200, answer
        return answer.text

    def json(self, path: str = "/status") -> Any:
        return json.loads(self.get(path))

    def metrics(self) -> Metrics:
        return Metrics(self.get("/metrics"))


def ask(connection, path, method="GET", body=None, headers=None) -> Answer:
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    found = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, found, response.read().decode())


class Metrics:
    """One scrape, as Prometheus reads it."""

    def __init__(self, text: str):
        self.families = list(text_string_to_metric_families(text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        found = [each for each in self.samples if each.name == name and each.labels == labels]
        assert len(found) <= 1
        return found[0].value if found else 0.0


def over_tcp(daemon: Daemon) -> Web:
    """The endpoint of a daemon that was started with ``-pprof -pprof-port 0``."""
    found = re.search(r"url=http://127\.0\.0\.1:(\d+)/", daemon.wait_for_log("debug endpoint"))
    assert found, daemon.log
    return Web(("127.0.0.1", int(found[1])))


def wait_for_profiler(web: Web) -> None:
    wait_until(lambda: "debug/profile.py" in web.get("/debug/greenlets"), "a profile is taken")
