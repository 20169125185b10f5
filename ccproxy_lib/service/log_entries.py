"""Log entries that runtimes and shims send: their way into our log, and how many may take it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import gevent

from ccproxy_lib.errors import PayloadError, ProtocolError
from ccproxy_lib.host import logs
from ccproxy_lib.host.logs import tags
from ccproxy_lib.state.rate import Rate
from ccproxy_lib.wire import json, payloads

if TYPE_CHECKING:
    from ccproxy_lib.service.connection import Connection

# How often to say that a client's entries are dropped.
REPORT_EVERY_S = 1.0

log = logging.getLogger(__name__)

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


class LogEntries:
    """The log entries of one client."""

    __slots__ = ("_client", "_rate")

    def __init__(self, client: Connection) -> None:
        limits = client.proxy.limits
        self._client = client
        self._rate = Rate(limits.max_log_burst, limits.max_log_rate, time.monotonic())

    def take(self, payload: bytes | memoryview) -> None:
        """Log one entry, or count it as dropped; ProtocolError if it is invalid."""
        entry = self._parse(payload)
        level = _LEVELS[entry.level]
        vm_id = self._client.vm_id
        if not logs.wants(level, vm_id, entry.container_id):
            return
        if not self._rate.take(time.monotonic()):
            self._drop()
            return
        fields = self._client.tags(source=entry.source, container=entry.container_id)
        log.log(level, "%s", entry.message, extra=fields)

    def _parse(self, payload: bytes | memoryview) -> payloads.LogEntry:
        try:
            json.check_depth(payload, self._client.proxy.limits.max_json_depth)
            return payloads.parse_log_entry(payload)
        except PayloadError as error:
            raise ProtocolError(f"invalid log entry: {error}") from None

    def _drop(self) -> None:
        self._client.proxy.counters.drops["log-entries"] += 1
        if self._rate.refused == 1:
            gevent.spawn_later(REPORT_EVERY_S, self._report)

    def _report(self) -> None:
        fields = tags(client=self._client.id, count=self._rate.take_refused())
        log.warning("log entries dropped", extra=fields)
