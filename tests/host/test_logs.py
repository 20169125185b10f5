"""What the log's lines look like, and that nothing in them can break out."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import logfmtkv
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ccproxy_lib.errors import CommandError, UsageError
from ccproxy_lib.host import log_control, log_formats, logs
from ccproxy_lib.host.log_record import MAX_TEXT_CHARS

log = logging.getLogger("ccproxy_lib.tests")


@pytest.fixture(autouse=True)
def keep_logger() -> Iterator[None]:
    logger = logging.getLogger(logs.ROOT)
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.level, logger.propagate = before


def logged(write: Callable[[], None], level: int = logging.DEBUG, **options: Any) -> str:
    stream = io.StringIO()
    logs.set_up(level, stream, **options)
    write()
    return stream.getvalue()


def fields(line: str) -> dict[str, Any]:
    """Read a line of logfmt as the strictest of readers does."""
    return logfmtkv.parse(line, strict=True)


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
@example("ends with \\", "\\")
@example("%s", "\ud800")
def test_no_text_breaks_out_of_its_field(message: str, value: str) -> None:
    line = logged(lambda: log.info(message, extra=logs.tags(value=value)))
    assert_one_line(line)
    found = fields(line[:-1])
    assert (found["msg"], found["value"]) == (readable(message), readable(value))
    assert list(found) == ["time", "level", "msg", "value"]


@given(st.text(st.characters()), st.text(st.characters()) | st.integers() | st.floats())
@example("\x85\u2028", float("nan"))
def test_each_line_of_json_is_one_object(message: str, value: Any) -> None:
    line = logged(lambda: log.info(message, extra=logs.tags(value=value)), line_format="json")
    assert_one_line(line)
    found = json.loads(line)
    assert list(found) == ["time", "level", "msg", "value"]
    assert found["level"] == "info"
    assert found["msg"] == message
    assert found["value"] == value or found["value"] == str(value)  # JSON knows no infinity


@given(st.text(st.characters()), st.text(st.characters()))
@example("\x1b[2J\x9b", "\n12:00:00 ERROR forged")
def test_a_line_of_text_stays_one_line(message: str, value: str) -> None:
    line = logged(lambda: log.info(message, extra=logs.tags(value=value)), line_format="text")
    assert_one_line(line)
    assert re.match(r"\d\d:\d\d:\d\d INFO    ", line)
    assert line.endswith(f" value={log_formats.quoted(value)}\n")


def assert_one_line(line: str) -> None:
    assert line.endswith("\n")
    assert line[:-1].splitlines() == [line[:-1]]
    assert not any(unicodedata.category(char) == "Cc" for char in line[:-1])
    line.encode()


def readable(text: str) -> str:
    """What a reader of logfmt makes of it: it has no word for half of a surrogate pair."""
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


def test_json_keeps_numbers_and_truth_values() -> None:
    values = logs.tags(count=3, ratio=0.5, ok=True, nothing=None, name="c1")
    line = logged(lambda: log.info("x", extra=values), line_format="json")
    assert line.endswith(',"count":3,"ratio":0.5,"ok":true,"nothing":null,"name":"c1"}\n')


@pytest.mark.parametrize("line_format", ["logfmt", "json"])
def test_fields_with_names_of_the_lines_own(line_format: str) -> None:
    more = logs.tags(**{"time": 1, "level": 2, "msg": 3, "a b=\n": 4, "": 5})
    line = logged(lambda: log.info("said", extra=more), line_format=line_format)
    found = json.loads(line) if line_format == "json" else fields(line[:-1])
    assert (found["level"], found["msg"]) == ("info", "said")
    others = {name: str(value) for name, value in list(found.items())[3:]}
    assert others == {
        "fields.time": "1",
        "fields.level": "2",
        "fields.msg": "3",
        "a_b__": "4",
        "_": "5",
    }


@pytest.mark.parametrize("line_format", log_formats.FORMATS)
def test_long_texts_are_cut_and_say_so(line_format: str) -> None:
    line = logged(
        lambda: log.info("%s", "x" * 100_000, extra=logs.tags(why="y" * 10_000)),
        line_format=line_format,
    )
    assert len(line) < 3 * MAX_TEXT_CHARS
    assert "x... (100000 characters)" in line
    assert "y... (10000 characters)" in line


# ---- tokens


@given(
    st.binary(min_size=32, max_size=32),
    st.text(st.characters()) | st.text("aA0-_= ", max_size=50),
    st.text(st.characters()),
    st.sampled_from(log_formats.FORMATS),
)
def test_a_token_is_hidden_wherever_it_stands(
    secret: bytes, before: str, behind: str, line_format: str
) -> None:
    token = base64.urlsafe_b64encode(secret).decode()
    text = before + token + behind

    def write() -> None:
        try:
            raise KeyError(text)
        except KeyError:
            log.exception("%s", text, extra=logs.tags(why=text))

    assert token not in logged(write, line_format=line_format)


@pytest.mark.parametrize("shift", range(46))
def test_a_token_that_is_cut_is_hidden_too(shift: int) -> None:
    token = "T" * 43 + "="
    text = "-.-." * (MAX_TEXT_CHARS // 4) + token * 300
    line = logged(lambda: log.info("%s", text[shift:]))
    assert "TT" not in line


def test_what_only_looks_like_a_token_stays() -> None:
    container = "0123456789abcdef" * 4
    line = logged(lambda: log.info("x", extra=logs.tags(container=container, a="b=c")))
    assert line.endswith(f' container={container} a="b=c"\n')


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


def logged_to_terminal(write: Callable[[], None], **options: Any) -> str:
    master, slave = os.openpty()
    with open(master, "rb", buffering=0) as screen, open(slave, "w") as terminal:
        logs.set_up(logging.DEBUG, terminal, **options)
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
    with open(reader, "rb", buffering=0) as lines, open(writer, "w") as pipe:
        logs.set_up(logging.DEBUG, pipe)
        log.error("bad news")
        assert fields(lines.read(65536).decode().rstrip("\n"))["msg"] == "bad news"


def test_text_in_a_pipe_has_no_colour() -> None:
    line = logged(lambda: log.error("bad news", extra=logs.tags(vm="c1")), line_format="text")
    assert re.fullmatch(r"\d\d:\d\d:\d\d ERROR   bad news vm=c1\n", line)


def test_a_traceback_in_text_is_for_eyes() -> None:
    def write() -> None:
        try:
            raise ValueError("\x1b[2J")
        except ValueError:
            log.exception("failed")

    first, *rows = logged(write, line_format="text").splitlines()
    assert first.endswith(" ERROR   failed")
    assert rows[0] == "Traceback (most recent call last):"
    assert rows[-1] == r"ValueError: \u001b[2J"


def test_a_format_can_be_asked_for_on_a_terminal() -> None:
    line = logged_to_terminal(lambda: log.error("bad news"), line_format="json")
    assert json.loads(line)["msg"] == "bad news"


@pytest.mark.parametrize("text", ["", "xml", "text,json"])
def test_unknown_format(text: str) -> None:
    with pytest.raises(UsageError, match=f"^unknown log format '{text}': use text, logfmt or json"):
        logs.parse_format(text)


def test_format_in_any_case() -> None:
    assert [logs.parse_format(text) for text in ("JSON", "Text", None)] == ["json", "text", None]


# ---- levels that change


def messages(write: Callable[[], None], level: int = logging.INFO) -> list[str]:
    return [str(fields(line)["msg"]) for line in logged(write, level).splitlines()]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("debug", "debug"),
        ("INFO", "info"),
        ("warning", "warn"),
        (logging.WARNING, "warn"),
        ("error", "error"),
        ("panic", "fatal"),
        ("2", "debug"),
    ],
)
def test_the_level_by_name(given: str | int, told: str) -> None:
    logs.set_level(given)
    assert logs.level_name() == told


def test_the_level_changes_at_once() -> None:
    def write() -> None:
        log.debug("before")
        logs.set_level("debug")
        log.debug("while")
        logs.set_level("error")
        log.warning("after")

    assert messages(write) == ["while"]


def test_one_vm_or_container_may_say_more() -> None:
    def write() -> None:
        logs.set_level_for("c1", "debug")
        for vm, container in (("c1", ""), ("c2", ""), ("c2", "c1"), ("c1", "c2")):
            log.debug("%s/%s", vm, container, extra=logs.tags(vm=vm, container=container))
        log.debug("nobody")
        log.info("all", extra=logs.tags(vm="c2"))
        logs.set_level_for("c1", None)
        log.debug("back", extra=logs.tags(vm="c1"))
        assert not log.isEnabledFor(logging.DEBUG)

    assert messages(write) == ["c1/", "c2/c1", "c1/c2", "all"]


def test_a_higher_level_for_one_hides_nothing() -> None:
    def write() -> None:
        logs.set_level_for("c1", "fatal")
        log.info("said", extra=logs.tags(vm="c1"))
        logs.set_level_for("c1", None)

    assert messages(write) == ["said"]


def test_who_wants_debug() -> None:
    logs.set_level("info")
    assert not logs.wants(logging.DEBUG, "c1")
    logs.set_level_for("c1", "debug")
    assert logs.wants(logging.DEBUG, "c1")
    assert logs.wants(logging.DEBUG, "c2", "c1")
    assert not logs.wants(logging.DEBUG, "c2", "")
    assert logs.wants(logging.INFO)
    logs.set_level_for("c1", None)


def test_only_so_many_have_a_level_of_their_own() -> None:
    for number in range(log_control.MAX_IDS):
        logs.set_level_for(f"c{number}", "debug")
    try:
        with pytest.raises(CommandError, match="1000 VMs and containers have a log level"):
            logs.set_level_for("more", "debug")
        logs.set_level_for("c1", "info")
    finally:
        for number in range(log_control.MAX_IDS):
            logs.set_level_for(f"c{number}", None)
    logs.set_level_for("never", None)


# ---- where it goes


def test_what_waits_is_told_of() -> None:
    logged(lambda: None)
    assert logs.writer() is None
    with open(os.devnull, "w") as stream:
        logs.set_up(logging.INFO, stream)
        assert logs.writer() is not None


def test_another_set_up_closes_what_was_there() -> None:
    before = len(os.listdir("/proc/self/fd"))
    reader, writer = os.pipe()
    with open(writer, "w") as pipe:
        logs.set_up(logging.INFO, pipe)
    logged(lambda: None)
    with open(reader) as lines:
        assert lines.read() == ""
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_stream_that_is_closed_is_no_reason_to_stop(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as stream:
        logs.set_up(logging.INFO, stream, line_format="json")
        log.info("on")
    assert '"msg":"on"' in (tmp_path / "log").read_text()
    log.info("off")
