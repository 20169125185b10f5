"""What the log's lines look like, and that nothing in them can break out."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import unicodedata
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ccproxy_lib.errors import UsageError
from ccproxy_lib.host import logs

log = logging.getLogger("ccproxy_lib.tests")

# The fields of a line: plain, or quoted as JSON.
FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^" ]+)(?: |$)')


@pytest.fixture(autouse=True)
def keep_logger() -> Iterator[None]:
    logger = logging.getLogger(logs.ROOT)
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def logged(write: Callable[[], None], level: int = logging.DEBUG) -> str:
    stream = io.StringIO()
    logs.set_up(level, stream)
    write()
    return stream.getvalue()


def fields(line: str) -> dict[str, str]:
    """Read a line of logfmt; all of it must be fields."""
    assert FIELD.sub("", line) == "", line
    found = FIELD.findall(line)
    return {name: json.loads(value) if value[0] == '"' else value for name, value in found}


# ---- levels


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("debug", logging.DEBUG),
        ("info", logging.INFO),
        ("warn", logging.WARNING),
        ("warning", logging.WARNING),
        ("error", logging.ERROR),
        ("fatal", logging.CRITICAL),
        ("panic", logging.CRITICAL),
        ("0", logging.WARNING),
        ("1", logging.INFO),
        ("2", logging.DEBUG),
    ],
)
def test_level_in_any_case(text: str, level: int) -> None:
    for written in (text, text.upper(), text.capitalize()):
        assert logs.parse_level(written) == level


@pytest.mark.parametrize("text", ["", "loud", "3", "-1", "10", " info", "notset"])
def test_unknown_level(text: str) -> None:
    with pytest.raises(UsageError, match=f"^unknown log level '{text}': use debug, info, "):
        logs.parse_level(text)


def test_lower_levels_are_left_out() -> None:
    def write() -> None:
        log.info("unheard")
        log.warning("heard")

    assert fields(logged(write, logging.WARNING).rstrip("\n"))["msg"] == "heard"


def test_only_the_last_set_up_counts() -> None:
    before = io.StringIO()
    logs.set_up(logging.DEBUG, before)
    assert logged(lambda: log.info("once")).count("once") == 1
    assert before.getvalue() == ""


# ---- logfmt


@pytest.mark.parametrize(
    ("level", "word"),
    [
        (logging.DEBUG, "debug"),
        (logging.INFO, "info"),
        (logging.WARNING, "warning"),
        (logging.ERROR, "error"),
        (logging.CRITICAL, "fatal"),
    ],
)
def test_a_line(level: int, word: str) -> None:
    line = logged(lambda: log.log(level, "process %s", "started", extra=logs.tags(vm="c1", seq=7)))
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z "
        rf'level={word} msg="process started" vm=c1 seq=7\n',
        line,
    )


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain-1.2_/@:+,", "plain-1.2_/@:+,"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "no"', r'"say \"no\""'),
        ("back\\slash", r'"back\\slash"'),
        ("one\ntwo\r\n", r'"one\ntwo\r\n"'),
        ("\x00\x1b[31m", r'"\u0000\u001b[31m"'),
        ("\x7f", r'"\u007f"'),
        ("\x85\x9b31m", r'"\u0085\u009b31m"'),
        ("caf\xe9", '"caf\xe9"'),
        ("odd\udcff", r'"odd\udcff"'),
    ],
)
def test_quoting(text: str, quoted: str) -> None:
    line = logged(lambda: log.info("x", extra=logs.tags(value=text)))
    assert line.endswith(f" value={quoted}\n")


@given(st.text(st.characters()), st.text(st.characters()))
@example('" level=fatal msg="forged', "\n")
@example("%s", "\ud800")
def test_no_text_breaks_out_of_its_field(message: str, value: str) -> None:
    line = logged(lambda: log.info(message, extra=logs.tags(value=value)))
    assert line.endswith("\n")
    assert not any(unicodedata.category(char) == "Cc" for char in line[:-1])
    line.encode()
    found = fields(line[:-1])
    assert (found["msg"], found["value"]) == (message, value)
    assert list(found) == ["time", "level", "msg", "value"]


def test_a_traceback_is_one_field() -> None:
    def write() -> None:
        try:
            raise ValueError("our bug")
        except ValueError:
            log.exception("failed")

    line = logged(write)
    assert line.count("\n") == 1
    assert fields(line[:-1])["traceback"].endswith("\nValueError: our bug")


# ---- the two looks


def logged_to_terminal(write: Callable[[], None]) -> str:
    master, slave = os.openpty()
    with open(master, "rb", buffering=0) as screen, open(slave, "w") as terminal:
        logs.set_up(logging.DEBUG, terminal)
        write()
        return screen.read(65536).decode()


def test_on_a_terminal_it_is_for_eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = logged_to_terminal(lambda: log.error("bad news", extra=logs.tags(vm="c1", why="a b")))
    assert re.search(
        r'\x1b\[31m\d\d:\d\d:\d\d ERROR +\x1b\[0m bad news.* vm=c1 why="a b"\r\n', line
    )
    assert "time=" not in line


def test_a_guest_cannot_play_with_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = logged_to_terminal(
        lambda: log.error("%s", "\x1b]0;mine\x07\x9b2J\n", extra=logs.tags(why="\x1b[2J"))
    )
    line = screen.removesuffix("\r\n")
    assert not any(unicodedata.category(char) == "Cc" for char in line), line
    assert r"\u001b]0;mine\u0007" in line


def test_in_a_pipe_it_is_logfmt() -> None:
    reader, writer = os.pipe()
    with open(reader) as lines:
        with open(writer, "w") as pipe:
            logs.set_up(logging.DEBUG, pipe)
            log.error("bad news")
        assert fields(lines.read().rstrip("\n"))["msg"] == "bad news"
