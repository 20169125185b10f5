"""A log whose reader is slow goes on by itself, and takes what else would go to stderr."""

from __future__ import annotations

import logging
import os

import gevent
import pytest
from gevent.hub import get_hub
from gevent.socket import wait_read

from ccproxy_lib.host import logs
from ccproxy_lib.service import log_pump
from ccproxy_lib.state.counters import Counters

log = logging.getLogger(f"{logs.ROOT}.test")


@pytest.fixture
def pipe():
    """The end of a pipe that the log is written to, for reading; the pump runs."""
    logger = logging.getLogger(logs.ROOT)
    before = logger.handlers[:], logger.level, logger.propagate
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with open(reader, "rb", buffering=0), open(writer, "w") as stream:
        logs.set_up(logging.INFO, stream)
        log_pump.start(Counters())
        yield reader
        del get_hub().print_exception
        for handler in logger.handlers:
            handler.close()
    logger.handlers[:], logger.level, logger.propagate = before


def test_what_waits_leaves_as_soon_as_it_is_read(pipe):
    for number in range(2000):
        log.info("%d %s", number, "x" * 200)
    got = b""
    while b'"1999 ' not in got:
        wait_read(pipe, 30)
        got += os.read(pipe, 4096)
    assert got.count(b"\n") == 2000
    assert logs.writer().flush()


def test_a_greenlet_that_fails_is_in_the_log(pipe, capfd):
    gevent.spawn(int, "no number").join()
    line = os.read(pipe, 1 << 16).decode()
    assert line.count("\n") == 1
    assert 'level=error msg="failed: <Greenlet at ' in line
    assert "ValueError: invalid literal" in line
    assert capfd.readouterr().err == ""
