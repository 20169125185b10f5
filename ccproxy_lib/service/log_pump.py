"""Keeping the log going: lines that wait for their reader, and failures that only gevent sees."""

from __future__ import annotations

import logging
from functools import partial
from types import TracebackType

import gevent
from gevent.hub import get_hub
from gevent.socket import wait_write

from ccproxy_lib.host import logs
from ccproxy_lib.host.line_writer import LineWriter
from ccproxy_lib.state.counters import Counters

log = logging.getLogger(__name__)


def start(counters: Counters) -> None:
    """See to it that the log needs nobody's attention from now on."""
    # gevent would print them to stderr, and wait there for a reader.
    get_hub().print_exception = _log_failure  # type: ignore[method-assign]
    if writer := logs.writer():
        writer.on_stuck = partial(_spawn, writer)
        writer.on_drop = partial(_count, counters)


def _count(counters: Counters) -> None:
    counters.drops["log-lines"] += 1


def _spawn(writer: LineWriter) -> None:
    gevent.spawn(_work_off, writer)


def _work_off(writer: LineWriter) -> None:
    """Write what waits whenever the reader takes more; a greenlet of its own."""
    while not writer.flush():
        wait_write(writer.descriptor)


def _log_failure(
    context: object | None,
    t: type[BaseException] | None,
    v: BaseException | str | None,
    tb: TracebackType | None,
) -> None:
    if t is not None and isinstance(v, BaseException):
        log.error("failed: %s", context, exc_info=(t, v, tb))
