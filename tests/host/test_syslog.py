"""Syslog, on a real datagram socket that the test reads, or doesn't."""

from __future__ import annotations

import io
import logging
import os
import re

import pytest

from ccproxy_lib.host import logs
from ccproxy_lib.host.syslog import SyslogHandler
from tests.host import datagrams

log = logging.getLogger(f"{logs.ROOT}.test")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "log")


@pytest.fixture
def syslogd(path):
    with datagrams.reader(path) as syslogd:
        yield syslogd


@pytest.fixture
def set_up(path):
    """Set the package's log up with syslog; returns the other log's stream."""
    logger = logging.getLogger(logs.ROOT)
    before = logger.handlers[:], logger.level, logger.propagate

    def set_up(level=logging.DEBUG):
        stream = io.StringIO()
        logs.set_up(level, stream, syslog_path=path)
        return stream

    yield set_up
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.level, logger.propagate = before


def test_a_record_is_one_datagram_without_the_time(syslogd, set_up):
    stream = set_up()
    log.info("a VM", extra=logs.tags(vm="c1"))
    line = f'<30>cc-proxy[{os.getpid()}]: level=info msg="a VM" vm=c1'
    assert syslogd.recv(1 << 16).decode() == line
    assert re.fullmatch('time="?[0-9-]+T.*Z"? level=info msg="a VM" vm=c1\n', stream.getvalue())


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", 31), ("info", 30), ("warning", 28), ("error", 27), ("fatal", 26)],
)
def test_levels_become_severities_of_a_daemon(syslogd, set_up, level, priority):
    set_up()
    log.log(logs.parse_level({"warning": "warn"}.get(level, level)), "x")
    assert syslogd.recv(1 << 16).startswith(b"<%d>" % priority)


def test_the_level_holds_for_syslog_too(syslogd, set_up):
    set_up(logging.WARNING)
    log.info("no")
    log.warning("yes")
    assert b"msg=yes" in syslogd.recv(1 << 16)


def test_no_syslog_is_one_warning(set_up, path):
    stream = set_up()
    log.error("on")
    warning, line = stream.getvalue().splitlines()
    assert f'level=warning msg="no syslog" path={path} reason="No such file' in warning
    assert "msg=on" in line


def test_a_path_that_no_socket_can_have_is_no_syslog(tmp_path):
    handler = SyslogHandler(str(tmp_path / ("x" * 200)))
    assert handler.problem() == "AF_UNIX path too long"
    handler.close()


def test_syslog_goes_away_and_comes_back(syslogd, set_up, path):
    stream = set_up()
    syslogd.close()
    log.info("refused")
    os.unlink(path)
    log.info("missing")
    with datagrams.reader(path) as again:
        log.info("back")
        assert b"msg=back" in again.recv(1 << 16)
    assert len(stream.getvalue().splitlines()) == 3


def test_a_full_syslog_is_not_waited_for(syslogd, set_up, capsys):
    stream = set_up()
    for number in range(10_000):  # some hundred fit
        log.info("line %d", number)
    assert len(stream.getvalue().splitlines()) == 10_000
    assert b'"line 0"' in syslogd.recv(1 << 16)
    assert capsys.readouterr().err == ""


def test_a_record_too_long_for_a_datagram_is_dropped(syslogd, set_up):
    set_up()
    log.info("long", extra=logs.tags(**{f"field{number}": "x" * 8000 for number in range(1000)}))
    log.info("next")
    assert b"msg=next" in syslogd.recv(1 << 16)


def test_a_long_message_is_cut_and_comes(syslogd, set_up):
    set_up()
    log.info("x" * (16 << 20))
    assert b"xxx... (16777216 characters)" in syslogd.recv(1 << 16)


def test_a_record_that_cannot_be_written_hurts_nobody(syslogd, set_up, capsys):
    set_up()
    log.info("%d", "no number")
    assert "Logging error" in capsys.readouterr().err
    log.info("next")
    assert b"msg=next" in syslogd.recv(1 << 16)
