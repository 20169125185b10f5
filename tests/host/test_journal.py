"""Entries for systemd's journal, on a real datagram socket that the test reads, or doesn't."""

from __future__ import annotations

import array
import io
import logging
import os
import socket
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ccproxy_lib.host import journal, logs
from ccproxy_lib.host.journal import JournalHandler, encode, leads_to_journal
from ccproxy_lib.host.log_formats import LogfmtFormatter
from tests.host import datagrams

MOST_BYTES = 1 << 20


def parse(entry: bytes) -> dict[str, str]:
    """Read an entry as journald does."""
    fields = {}
    while entry:
        line, newline, entry = entry.partition(b"\n")
        assert newline
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(entry[:8], "little")
            value, end, entry = entry[8 : 8 + length], entry[8 + length], entry[9 + length :]
            assert end == ord("\n")
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "socket")


@pytest.fixture
def journald(path):
    with datagrams.reader(path) as journald:
        yield journald


@pytest.fixture
def fallback():
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(LogfmtFormatter(timed=False))
    return handler


@pytest.fixture
def handler(path, fallback):
    handler = JournalHandler(path, fallback)
    yield handler
    handler.close()


def record(said: str, level: int = logging.INFO, **fields) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": said, "levelno": level, "fields": fields})


def test_a_record_is_one_entry_with_its_fields(journald, handler):
    handler.handle(record("process ended", vm="c1", container="c 2", client=3, status=7))
    assert parse(journald.recv(MOST_BYTES)) == {
        "MESSAGE": 'process ended vm=c1 container="c 2" client=3 status=7',
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "cc-proxy",
        "SYSLOG_FACILITY": "3",
        "CC_MESSAGE": "process ended",
        "CC_VM": "c1",
        "CC_CONTAINER": "c 2",
        "CC_CLIENT": "3",
        "CC_STATUS": "7",
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", "7"), ("info", "6"), ("warn", "4"), ("error", "3"), ("fatal", "2")],
)
def test_levels_become_priorities(journald, handler, level, priority):
    handler.handle(record("x", logs.parse_level(level)))
    assert parse(journald.recv(MOST_BYTES))["PRIORITY"] == priority


@given(st.text(st.characters()), st.text(st.characters()))
@example("PRIORITY=0\nMESSAGE=forged", "\n")
@example("", "\udcff\x00")
def test_no_text_breaks_out_of_its_field(message, value):
    entry = parse(encode(journal.entry_of(record(message.replace("%", "%%"), why=value))))
    assert list(entry)[0] == "CC_WHY"
    assert set(entry) == {
        "CC_WHY",
        "MESSAGE",
        "PRIORITY",
        "SYSLOG_IDENTIFIER",
        "SYSLOG_FACILITY",
        "CC_MESSAGE",
    }
    assert entry["CC_WHY"] == value.encode(errors="backslashreplace").decode()
    assert not any(char < " " for char in entry["MESSAGE"])  # or journalctl would not show it


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("waited_s", "CC_WAITED_S"),
        ("msg", "CC_FIELDS_MSG"),
        ("message", "CC_MESSAGE"),
        ("a b=\n", "CC_A_B__"),
        ("n" * 100, "CC_" + "N" * 60),
    ],
)
def test_names_are_those_that_the_journal_takes(name, there):
    entry = journal.entry_of(record("said", **{name: 1}))
    assert there in entry
    assert entry["CC_MESSAGE"] == "said"
    assert all(len(each) <= 64 for each in entry)


def test_a_traceback_has_a_field_of_its_own(journald, handler):
    try:
        raise ValueError("our bug")
    except ValueError as error:
        said = record("failed")
        said.exc_info = (ValueError, error, error.__traceback__)
    handler.handle(said)
    entry = parse(journald.recv(MOST_BYTES))
    assert entry["MESSAGE"] == "failed"
    assert entry["CC_TRACEBACK"].endswith("\nValueError: our bug")


def test_what_is_too_long_for_a_datagram_comes_as_a_file(journald, handler, fallback):
    handler.handle(record("long", **{f"field{number}": "x" * 8000 for number in range(1000)}))
    data, passed, _, _ = journald.recvmsg(MOST_BYTES, socket.CMSG_SPACE(4))
    assert data == b""
    ((_, kind, packed),) = passed
    assert kind == socket.SCM_RIGHTS
    with open(array.array("i", packed)[0], "rb") as file:
        file.seek(0)
        entry = parse(file.read())
        with pytest.raises(OSError):  # journald wants it sealed
            os.truncate(file.fileno(), 0)
    assert entry["CC_FIELD999"] == "x" * 8000
    assert fallback.stream.getvalue() == ""


def test_a_full_journal_is_not_waited_for(journald, handler, fallback):
    for number in range(2000):  # some hundred fit
        handler.handle(record(f"line {number}"))
    lines = fallback.stream.getvalue().splitlines()
    assert parse(journald.recv(MOST_BYTES))["MESSAGE"] == "line 0"
    assert lines[-1] == 'level=info msg="line 1999"'
    taken = 2000 - len(lines)
    assert lines[0] == f'level=info msg="line {taken}"'


def test_a_journal_that_goes_away_and_comes_back(journald, handler, fallback, path):
    journald.close()
    handler.handle(record("refused"))
    os.unlink(path)
    handler.handle(record("missing"))
    with datagrams.reader(path) as again:
        handler.handle(record("back"))
        assert parse(again.recv(MOST_BYTES))["MESSAGE"] == "back"
    assert fallback.stream.getvalue() == "level=info msg=refused\nlevel=info msg=missing\n"


def test_without_a_fallback_a_missing_journal_costs_nothing(path):
    handler = JournalHandler(path)
    handler.handle(record("x"))
    handler.close()
    handler.handle(record("x"))


def test_where_stderr_leads(tmp_path):
    with open(tmp_path / "stream", "w") as stream, open(tmp_path / "other", "w") as other:
        status = os.fstat(stream.fileno())
        named = f"{status.st_dev}:{status.st_ino}"
        assert leads_to_journal(stream.fileno(), named)
        assert not leads_to_journal(other.fileno(), named)
        for wrong in (None, "", "1", "1:2", f"{named} ", f"{status.st_ino}:{status.st_dev}"):
            assert not leads_to_journal(stream.fileno(), wrong)
        number = other.fileno()
    assert not leads_to_journal(number, named)


# ---- set up


@pytest.fixture
def stream(tmp_path, monkeypatch):
    """What systemd would have led stderr to."""
    with open(tmp_path / "stream", "w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        yield stream


@pytest.fixture
def set_up(path):
    logger = logging.getLogger(logs.ROOT)
    before = logger.handlers[:], logger.level, logger.propagate
    yield partial(logs.set_up, journal_path=path)
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.level, logger.propagate = before


log = logging.getLogger(f"{logs.ROOT}.test")


def said(stream) -> str:
    with open(stream.name) as again:
        return again.read()


def test_under_systemd_it_is_the_journal(journald, set_up, stream):
    set_up(logging.INFO, stream)
    log.info("on", extra=logs.tags(vm="c1"))
    assert parse(journald.recv(MOST_BYTES))["CC_VM"] == "c1"
    assert said(stream) == ""


def test_without_the_journals_socket_lines_go_where_systemd_led_them(set_up, stream):
    set_up(logging.INFO, stream)
    log.warning("on", extra=logs.tags(vm="c1"))
    assert said(stream) == "<4>level=warning msg=on vm=c1\n"
    assert logs.writer() is not None


def test_a_format_that_is_asked_for_counts_under_systemd_too(journald, set_up, stream):
    set_up(logging.INFO, stream, line_format="json")
    log.info("on")
    assert said(stream).endswith('"msg":"on"}\n')


def test_elsewhere_it_is_not(journald, set_up, stream, tmp_path):
    with open(tmp_path / "mine", "w") as mine:
        set_up(logging.INFO, mine)
        log.info("on")
    assert said(mine).endswith("level=info msg=on\n")


def test_a_daemon_whose_stderr_nobody_reads(journald, set_up, tmp_path):
    (tmp_path / "dev").mkdir()
    syslog_path = str(tmp_path / "dev" / "log")
    with datagrams.reader(syslog_path) as syslogd:
        set_up(logging.INFO, syslog_path=syslog_path, detached=True)
        log.info("on")
        assert parse(journald.recv(MOST_BYTES))["MESSAGE"] == "on"
        assert syslogd.recv(MOST_BYTES).endswith(b"level=info msg=on")


def test_and_that_finds_no_journal(set_up, tmp_path, capfd):
    (tmp_path / "dev").mkdir()
    syslog_path = str(tmp_path / "dev" / "log")
    with datagrams.reader(syslog_path) as syslogd:
        set_up(logging.INFO, syslog_path=syslog_path, detached=True)
        log.info("on")
        assert syslogd.recv(MOST_BYTES).endswith(b"level=info msg=on")
    assert capfd.readouterr().err == ""


def test_a_syslog_that_is_the_journal_gets_nothing_twice(journald, set_up, tmp_path):
    link = tmp_path / "devlog"
    link.symlink_to(tmp_path / "socket")
    set_up(logging.INFO, syslog_path=str(link), detached=True)
    assert len(logging.getLogger(logs.ROOT).handlers) == 1
    log.info("on")
    assert parse(journald.recv(MOST_BYTES))["MESSAGE"] == "on"


def test_a_level_of_its_own_holds_for_the_fallback_too(set_up, stream):
    set_up(logging.INFO, stream)
    logs.set_level_for("c1", "debug")
    log.debug("one", extra=logs.tags(vm="c1"))
    log.debug("two", extra=logs.tags(vm="c2"))
    logs.set_level_for("c1", None)
    assert said(stream) == "<7>level=debug msg=one vm=c1\n"
